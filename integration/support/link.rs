//! A client that chooses its bytes: for what depends on the order of messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pgherd::wire::scram::{ClientExchange, MECHANISM};
use pgherd::wire::{CancelKey, frontend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection with nothing between the test and its bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
    /// What names this session to a cancel request, once it is logged in.
    pub(crate) key: Option<CancelKey>,
}

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    /// A connection on which nothing was said yet.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            buffer: BytesMut::new(),
            key: None,
        }
    }

    /// A session that is ready for its first query, without a password.
    pub(crate) async fn log_in(address: SocketAddr, user: &str, database: &str) -> Self {
        let mut raw = Self::connect(address).await;
        raw.start(0, &[("user", user), ("database", database)])
            .await;
        let answer = raw.until_ready().await;
        assert_eq!(answer[0].tag, b'R', "{}", tags(&answer));
        raw.keep_key(&answer);
        raw
    }

    /// Sends a start-up message.
    pub(crate) async fn start(&mut self, minor: u16, parameters: &[(&str, &str)]) {
        let parameters = parameters
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.send(|out| frontend::startup(out, minor, parameters))
            .await;
    }

    /// The SCRAM exchange, from its request on. Gives the messages of the end of the login.
    pub(crate) async fn scram(&mut self, password: &str) -> Vec<Message> {
        let request = self.next().await;
        assert_eq!(request.body[..4], [0, 0, 0, 10], "{request:?}");
        let exchange = ClientExchange::with_password(password.as_bytes(), [7; 18]);
        let first = exchange.first().unwrap();
        self.send(|out| frontend::sasl_initial_response(out, MECHANISM.as_bytes(), &first))
            .await;
        let answer = self.next().await;
        assert_eq!(answer.body[..4], [0, 0, 0, 11], "{answer:?}");
        let (exchange, proof) = exchange.proof(&answer.body[4..]).unwrap();
        self.send(|out| frontend::sasl_response(out, &proof)).await;
        let last = self.next().await;
        if last.tag == b'E' {
            return vec![last];
        }
        assert_eq!(last.body[..4], [0, 0, 0, 12], "{last:?}");
        exchange.finish(&last.body[4..]).unwrap();
        let answer = self.until_ready().await;
        self.keep_key(&answer);
        answer
    }

    pub(crate) fn keep_key(&mut self, messages: &[Message]) {
        let key = messages.iter().find(|message| message.tag == b'K');
        self.key = key.map(|message| {
            let (pid, secret) = message.body.split_at(4);
            CancelKey {
                pid: u32::from_be_bytes(pid.try_into().unwrap()),
                secret: secret.to_vec().into(),
            }
        });
    }

    /// Sends the messages that are written, in one piece.
    pub(crate) async fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        self.send_bytes(&out).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a Query and gives all of its answer.
    pub(crate) async fn query(&mut self, text: &str) -> Vec<Message> {
        self.send(|out| frontend::query(out, text.as_bytes())).await;
        self.until_ready().await
    }

    /// The next byte, of an answer that is no message.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        timeout(ANSWER, self.stream.read_u8()).await.unwrap().ok()
    }

    /// The next message; `None` when the connection has ended.
    pub(crate) async fn next_or_end(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.cut() {
                return Some(message);
            }
            let read = timeout(ANSWER, self.stream.read_buf(&mut self.buffer));
            match read.await.expect("an answer in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        self.next_or_end().await.expect("the connection is open")
    }

    /// All messages up to one with this tag.
    pub(crate) async fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.next().await;
            let last = message.tag == tag;
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// All messages up to ReadyForQuery.
    pub(crate) async fn until_ready(&mut self) -> Vec<Message> {
        self.until(b'Z').await
    }

    /// All messages until the connection ends.
    pub(crate) async fn until_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next_or_end().await {
            messages.push(message);
        }
        messages
    }

    /// What has come of a message that is not complete.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether nothing comes for a moment. What it cannot see is a message that is later still.
    pub(crate) async fn is_silent(&mut self) -> bool {
        self.buffer.is_empty()
            && timeout(SILENCE, self.stream.read_buf(&mut self.buffer))
                .await
                .is_err()
    }

    fn cut(&mut self) -> Option<Message> {
        let head = self.buffer.first_chunk::<5>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if self.buffer.len() < 1 + length {
            return None;
        }
        let tag = self.buffer.get_u8();
        self.buffer.advance(4);
        let body = self.buffer.split_to(length - 4).to_vec();
        Some(Message { tag, body })
    }
}

impl Message {
    /// The fields of an error or a notice, by their letters.
    pub(crate) fn fields(&self) -> BTreeMap<char, String> {
        let parts = self.body.split(|byte| *byte == 0);
        let parts = parts.filter(|part| !part.is_empty());
        parts
            .map(|part| {
                (
                    char::from(part[0]),
                    String::from_utf8_lossy(&part[1..]).into_owned(),
                )
            })
            .collect()
    }

    /// The columns of a DataRow as text.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut body = &self.body[..];
        let count = body.get_u16();
        let column = |_at| {
            let length = usize::try_from(body.get_i32()).unwrap_or(0);
            let value = String::from_utf8_lossy(&body[..length]).into_owned();
            body.advance(length);
            value
        };
        (0..count).map(column).collect()
    }
}

/// The tags of messages in order, without the ParameterStatus that may come at any time.
pub(crate) fn tags(messages: &[Message]) -> String {
    let tags = messages.iter().map(|message| char::from(message.tag));
    tags.filter(|tag| *tag != 'S').collect()
}

/// The fields of the only error among these messages.
pub(crate) fn fields(messages: &[Message]) -> BTreeMap<char, String> {
    let errors: Vec<_> = messages
        .iter()
        .filter(|message| message.tag == b'E')
        .collect();
    assert_eq!(errors.len(), 1, "{}: {messages:?}", tags(messages));
    errors[0].fields()
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long we listen for what must not come.
const SILENCE: Duration = Duration::from_millis(150);
