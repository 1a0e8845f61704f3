//! A line between two processes of this machine: short texts, and open sockets with them.
//!
//! Each text ends with a line feed; the sockets travel with its first bytes, as the kernel's own
//! rights to them (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// One end of a line.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    input: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

impl Line {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            sockets: Vec::new(),
        }
    }

    /// Connects to the process that listens there.
    ///
    /// # Errors
    ///
    /// When nobody does, or we may not.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::new)
    }

    /// The number of the user of the process at the other end, if the kernel tells it.
    pub fn peer_user(&self) -> Option<u32> {
        self.stream.peer_cred().ok().map(|peer| peer.uid())
    }

    /// Sends one text, and these sockets.
    ///
    /// # Errors
    ///
    /// When the text has a line feed, there are more sockets than may travel at once, or the other
    /// end is gone.
    pub async fn send(&mut self, text: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        if text.contains('\n') || sockets.len() > SOCKETS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(b'\n');
        let mut sockets = sockets;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let send = || send_once(&self.stream, rest, sockets);
            let sent = self.stream.async_io(Interest::WRITABLE, send).await?;
            rest = rest.get(sent..).unwrap_or_default();
            sockets = &[];
        }
        Ok(())
    }

    /// Waits for the next text, and what came with it; `None` when the other end has closed. May be
    /// dropped and called again.
    ///
    /// # Errors
    ///
    /// When the text is too long or no text, or the line breaks.
    pub async fn receive(&mut self) -> io::Result<Option<(String, Vec<OwnedFd>)>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let mut text: Vec<u8> = self.input.drain(..=end).collect();
                text.pop();
                let text = String::from_utf8(text)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                return Ok(Some((text, std::mem::take(&mut self.sockets))));
            }
            if self.input.len() > TEXT_MAX || self.sockets.len() > SOCKETS_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let receive = || receive_once(&self.stream);
            let (bytes, sockets) = self.stream.async_io(Interest::READABLE, receive).await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.input.extend_from_slice(&bytes);
            self.sockets.extend(sockets);
        }
    }
}

fn send_once(stream: &UnixStream, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL;
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut rights, flags)?;
    Ok(sent)
}

fn receive_once(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; READ_BYTES];
    let mut room = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream.as_fd(), &mut room, &mut rights, flags)?;
    let sockets = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets = sockets.flatten().collect();
    bytes.truncate(received.bytes);
    Ok((bytes, sockets))
}

/// More than anybody listens on, and less than the kernel takes at once (253).
const SOCKETS_MAX: usize = 64;
const TEXT_MAX: usize = 64 << 10;
const READ_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Spare, inherit, listen};
    use tokio::net::TcpStream;

    fn pair() -> (Line, Line) {
        let (one, two) = UnixStream::pair().unwrap();
        (Line::new(one), Line::new(two))
    }

    #[tokio::test]
    async fn a_listening_socket_arrives_with_who_waits_at_it() {
        let (mut old, mut new) = pair();
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).await.unwrap();
        let spare = Spare::of_tcp(&listener).unwrap();
        old.send("one", &[]).await.unwrap();
        old.send("two", &[spare.as_fd()]).await.unwrap();
        drop((spare, listener));
        let (text, sockets) = new.receive().await.unwrap().unwrap();
        // What came in one read belongs to the texts that are in it; ours come one by one.
        assert_eq!(text, "one");
        let (text, mut more) = match sockets.is_empty() {
            true => new.receive().await.unwrap().unwrap(),
            false => (new.receive().await.unwrap().unwrap().0, sockets),
        };
        assert_eq!(text, "two");
        let listener = inherit(more.pop().unwrap()).unwrap();
        let (_stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
        drop(old);
        assert!(new.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_text_without_end_is_refused() {
        let (mut one, mut two) = pair();
        let endless = "x".repeat(TEXT_MAX + READ_BYTES);
        let sending = async {
            // The other end may have had enough before all is sent.
            one.send(&endless, &[]).await.ok();
        };
        let (received, ()) = tokio::join!(
            async {
                let received = two.receive().await;
                drop(two);
                received
            },
            sending
        );
        assert!(received.is_err() || received.unwrap().unwrap().0.len() > TEXT_MAX);
        assert!(one.send("a\nb", &[]).await.is_err());
    }
}
