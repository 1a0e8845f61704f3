//! Bytes on their way to one peer: pieces that were cut elsewhere and are not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::timeout;

use crate::net::Stream;

/// What waits to be written to one peer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many bytes wait.
    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    /// Forgets what waits: its peer is gone.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    /// Gives the room of an empty queue back.
    pub(super) fn trim(&mut self) {
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// Writes what the peer takes now; returns how much that was.
    pub(super) fn write(&mut self, stream: &mut Stream) -> io::Result<usize> {
        self.join_small();
        let mut written = 0;
        while let Some(first) = self.pieces.front() {
            let result = match self.pieces.len() {
                // One piece needs no list of pieces, which the kernel would have to copy in.
                1 => stream.try_write(first),
                _ => self.write_list(stream),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Writes all of it, or as much as the peer takes within `limit`.
    pub(super) async fn write_all(
        &mut self,
        stream: &mut Stream,
        limit: Duration,
    ) -> io::Result<()> {
        let all = async {
            while !self.is_empty() {
                stream.writable().await?;
                self.write(stream)?;
            }
            Ok(())
        };
        match timeout(limit, all).await {
            Ok(result) => result,
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn write_list(&self, stream: &mut Stream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        let used = self.pieces.len().min(SLICES_MAX);
        stream.try_write_vectored(slices.get(..used).unwrap_or_default())
    }

    /// A short answer in several pieces is cheaper to copy together than to write as a list.
    fn join_small(&mut self) {
        if self.pieces.len() < 2 || self.bytes > JOIN_BELOW {
            return;
        }
        let mut joined = BytesMut::with_capacity(self.bytes);
        for piece in self.pieces.drain(..) {
            joined.extend_from_slice(&piece);
        }
        self.pieces.push_back(joined.freeze());
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > count {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

/// Pieces in one system call. A reply has a handful; a large result has large pieces.
const SLICES_MAX: usize = 16;
/// Bytes up to which pieces are joined.
const JOIN_BELOW: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_leaves_the_rest_in_order() {
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"abc"));
        queue.push(Bytes::from_static(b"defg"));
        queue.advance(4);
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.pieces.front().unwrap().as_ref(), b"efg");
        queue.advance(3);
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_peer, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let mut stream = Stream::Plain(accepted.unwrap().0);
        let mut queue = Queue::default();
        queue.push(Bytes::from(vec![0; 64 << 20]));
        let written = queue.write_all(&mut stream, Duration::from_millis(50));
        assert_eq!(written.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
