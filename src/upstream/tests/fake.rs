//! A server on a loopback port that answers each connection with the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::cluster::Address;
use crate::net::{ConnectorFiles, TlsConnector, TlsMode, TlsStart};
use crate::upstream::{Login, Secret};

/// What the fake server does with a connection after the start-up packet came.
#[derive(Clone, Debug)]
pub(super) enum Script {
    /// Sends these bytes and stays.
    Say(Vec<u8>),
    /// Sends these bytes and closes.
    SayAndClose(Vec<u8>),
}

/// The fake server. Ends when dropped.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) address: Address,
    /// Connections that were accepted.
    pub(super) accepted: Arc<AtomicUsize>,
    /// Connections that the other side has closed.
    pub(super) closed: Arc<AtomicUsize>,
    /// Connections on which the other side said goodbye.
    pub(super) goodbyes: Arc<AtomicUsize>,
    later: broadcast::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(super) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicUsize::new(0));
        let goodbyes = Arc::new(AtomicUsize::new(0));
        let (later, _) = broadcast::channel(4);
        let ends = (Arc::clone(&closed), Arc::clone(&goodbyes));
        let (count, said) = (Arc::clone(&accepted), later.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (script, (closed, goodbyes)) = (script.clone(), ends.clone());
                let later = said.subscribe();
                // The process id of each connection is its number.
                let number = u32::try_from(number).unwrap();
                tokio::spawn(async move {
                    if serve(stream, script, later, number).await == Some(b'X') {
                        goodbyes.fetch_add(1, Ordering::SeqCst);
                    }
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            accepted,
            closed,
            goodbyes,
            later,
            task,
        }
    }

    /// Sends more bytes to all connections; none at all closes them.
    pub(super) fn say(&self, bytes: &[u8]) {
        self.later.send(bytes.to_vec()).unwrap();
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Ends, and returns when nobody listens any more.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    /// Waits until the other side has closed so many connections.
    pub(super) async fn wait_for_closed(&self, count: usize) {
        let wait = async {
            while self.closed.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(10);
        tokio::time::timeout(limit, wait).await.expect("not closed");
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the last byte but four that came: the tag of a goodbye.
async fn serve(
    mut stream: TcpStream,
    script: Script,
    mut later: broadcast::Receiver<Vec<u8>>,
    number: u32,
) -> Option<u8> {
    let mut packet = first(&mut stream).await?;
    if packet == SSL_REQUEST {
        stream.write_all(b"N").await.ok()?;
        packet = first(&mut stream).await?;
    }
    assert_ne!(packet, SSL_REQUEST, "asked again");
    let (Script::Say(bytes) | Script::SayAndClose(bytes)) = &script;
    stream.write_all(&numbered(bytes, number)).await.ok()?;
    if matches!(script, Script::SayAndClose(_)) {
        return None;
    }
    let mut heard = Vec::new();
    loop {
        tokio::select! {
            read = stream.read_buf(&mut heard) => match read {
                Ok(0) | Err(_) => return heard.iter().nth_back(4).copied(),
                Ok(_) => {}
            },
            said = later.recv() => match said {
                Ok(bytes) if !bytes.is_empty() => stream.write_all(&bytes).await.unwrap(),
                _ => return None,
            }
        }
    }
}

/// A packet without a tag.
async fn first(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u32().await.ok()?;
    let mut packet = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut packet).await.ok()?;
    Some(packet)
}

const SSL_REQUEST: [u8; 4] = [0x04, 0xD2, 0x16, 0x2F];

/// Does not ask for TLS.
pub(super) fn plain() -> TlsConnector {
    TlsConnector::new(
        TlsMode::Disable,
        TlsStart::Asked,
        &ConnectorFiles::default(),
    )
    .unwrap()
}

/// Writes the number of the connection where the script has the process id.
fn numbered(bytes: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes
        .windows(PROCESS_ID.len())
        .position(|window| window == PROCESS_ID);
    if let Some(at) = at {
        bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

const PROCESS_ID: [u8; 4] = *b"\xAB\xCD\xEF\x01";

/// One message.
pub(super) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// All that a server which trusts us says at a login.
pub(super) fn welcome(in_hot_standby: &str) -> Vec<u8> {
    let status = format!("in_hot_standby\0{in_hot_standby}\0");
    [
        frame(b'R', &[0; 4]),
        frame(b'S', b"server_version\x0015.1\0"),
        frame(b'S', status.as_bytes()),
        frame(b'K', &[&PROCESS_ID[..], b"key!"].concat()),
        frame(b'Z', b"I"),
    ]
    .concat()
}

pub(super) fn login(secret: Secret) -> Arc<Login> {
    Arc::new(Login {
        database: "app".into(),
        user: "alice".into(),
        secret,
        parameters: BTreeMap::new(),
    })
}
