//! What must be true of any bytes at all. The random tests and the fuzz targets share this file;
//! `super` is the wire module in the one, and a target that imports it in the other.

use bytes::{Bytes, BytesMut};

use super::{
    Cut, ErrorView, FirstPacket, FrameError, Head, Limits, Phase, Splitter, StartupError, backend,
    first_packet, frontend,
};

/// Who sends the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A client that is asked for a password.
    ClientAtLogin,
    /// A client that is logged in.
    Client,
    /// A server.
    Server,
}

/// What came of a stream: its pieces with neighbours joined, what was not cut, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) pieces: Vec<Cut>,
    pub(super) left: Vec<u8>,
    pub(super) end: Result<(), FrameError>,
}

/// Cuts a stream that comes in chunks of these sizes, over and over.
pub(super) fn cut(sender: Sender, limits: Limits, input: &[u8], sizes: &[usize]) -> Outcome {
    let mut splitter = match sender {
        Sender::Server => Splitter::server(limits),
        Sender::Client | Sender::ClientAtLogin => Splitter::client(limits),
    };
    if sender == Sender::ClientAtLogin {
        splitter.set_phase(Phase::Login);
    }
    let mut sizes = sizes.iter().map(|&size| size.max(1)).cycle();
    let (mut input, mut buffer, mut pieces) = (input, BytesMut::new(), Vec::new());
    loop {
        match splitter.next(&mut buffer) {
            Ok(Some(piece)) => push(&mut pieces, piece),
            Ok(None) if input.is_empty() => break finished(pieces, &buffer, input, Ok(())),
            Ok(None) => {
                assert!(
                    buffer.len() < limits.hold,
                    "more is asked for than may be held"
                );
                let size = sizes.next().unwrap_or(input.len()).min(input.len());
                let (chunk, rest) = input.split_at(size);
                buffer.extend_from_slice(chunk);
                input = rest;
            }
            Err(error) => {
                assert_eq!(
                    splitter.next(&mut buffer),
                    Err(error),
                    "an error does not last"
                );
                break finished(pieces, &buffer, input, Err(error));
            }
        }
    }
}

fn finished(
    pieces: Vec<Cut>,
    buffer: &[u8],
    unread: &[u8],
    end: Result<(), FrameError>,
) -> Outcome {
    let left = [buffer, unread].concat();
    Outcome { pieces, left, end }
}

/// Joins what chunking may have divided.
fn push(pieces: &mut Vec<Cut>, piece: Cut) {
    match (pieces.last_mut(), piece) {
        (Some(Cut::Run(before)), Cut::Run(bytes)) => *before = joined(before, &bytes),
        (
            Some(Cut::Rest {
                bytes: before,
                last: ended @ false,
            }),
            Cut::Rest { bytes, last },
        ) => {
            assert!(!bytes.is_empty(), "an empty piece");
            *before = joined(before, &bytes);
            *ended = last;
        }
        (_, piece) => pieces.push(piece),
    }
}

fn joined(before: &[u8], after: &[u8]) -> Bytes {
    [before, after].concat().into()
}

/// All bytes come out once and in order; how they came in makes no difference; no view panics, and
/// what a view reads, a builder writes.
pub(super) fn frames(sender: Sender, limits: Limits, input: &[u8], sizes: &[usize]) {
    let outcome = cut(sender, limits, input, sizes);
    let mut output = Vec::new();
    for piece in &outcome.pieces {
        match piece {
            Cut::Run(bytes) | Cut::Rest { bytes, .. } => output.extend_from_slice(bytes),
            Cut::Head(head) => {
                output.extend_from_slice(&head.bytes);
                renamed_to_itself(head);
            }
            Cut::Message(frame) => {
                output.extend_from_slice(&frame.bytes);
                let printed = match sender {
                    Sender::Server => server_message(frame.tag, frame.body()),
                    Sender::Client | Sender::ClientAtLogin => {
                        client_message(frame.tag, frame.body())
                    }
                };
                if let Some(printed) = printed {
                    assert_eq!(
                        printed, frame.bytes,
                        "what was read is not what was written"
                    );
                }
            }
        }
    }
    output.extend_from_slice(&outcome.left);
    assert_eq!(output, input, "bytes were lost, made or moved");
    let at_once = cut(sender, limits, input, &[usize::MAX]);
    assert_eq!(outcome, at_once, "chunks make a difference");
}

/// A head that gets the names it had is the head it was.
fn renamed_to_itself(head: &Head) {
    let mut out = BytesMut::new();
    let prefix = head.prefix();
    if let (frontend::tag::BIND, Ok(bind)) = (head.tag, frontend::BindHead::parse(prefix)) {
        let built = frontend::bind_head_for(&mut out, head, bind.statement, bind.portal);
        assert_eq!((built, &out[..]), (Ok(()), &head.bytes[..]));
    } else if let (frontend::tag::PARSE, Ok(parse)) = (head.tag, frontend::ParseHead::parse(prefix))
    {
        let built = frontend::parse_head_for(&mut out, head, parse.name);
        assert_eq!((built, &out[..]), (Ok(()), &head.bytes[..]));
    }
}

/// Reads a client's message and writes it again; `None` when it is malformed, or has no view.
pub(super) fn client_message(tag: u8, body: &[u8]) -> Option<BytesMut> {
    use frontend::{Bind, Close, Describe, Execute, Parse, Query, SaslInitialResponse};
    let mut out = BytesMut::new();
    match tag {
        b'Q' => frontend::query(&mut out, Query::parse(body).ok()?.text),
        b'P' => {
            let view = Parse::parse(body).ok()?;
            assert_eq!(view.type_oids().count() * 4 + 2, view.parameter_types.len());
            frontend::parse(&mut out, view.name, view.text, view.parameter_types);
        }
        b'B' => {
            let view = Bind::parse(body).ok()?;
            assert!(view.result_formats().len() * 2 <= view.rest.len());
            frontend::bind_for(&mut out, view.statement, view.portal, view.rest);
        }
        b'D' => {
            let view = Describe::parse(body).ok()?;
            frontend::describe(&mut out, view.what, view.name);
        }
        b'C' => {
            let view = Close::parse(body).ok()?;
            frontend::close(&mut out, view.what, view.name);
        }
        b'E' => {
            let view = Execute::parse(body).ok()?;
            frontend::execute(&mut out, view.portal, view.max_rows);
        }
        b'p' => {
            if let Ok(text) = frontend::password_text(body) {
                frontend::password(&mut out, text);
            } else {
                let view = SaslInitialResponse::parse(body).ok()?;
                frontend::sasl_initial_response(&mut out, view.mechanism, view.data?);
            }
        }
        _ => return None,
    }
    Some(out)
}

/// Reads a server's message and writes it again; `None` when it is malformed, or we do not send it.
pub(super) fn server_message(tag: u8, body: &[u8]) -> Option<BytesMut> {
    use backend::{Authentication, BackendKey, Notification, ParameterStatus, TransactionStatus};
    let mut out = BytesMut::new();
    match tag {
        b'Z' => backend::ready(&mut out, TransactionStatus::parse(body).ok()?),
        b'S' => {
            let view = ParameterStatus::parse(body).ok()?;
            backend::parameter_status(&mut out, view.name, view.value);
        }
        b'K' => backend::backend_key(&mut out, &BackendKey::parse(body).ok()?.to_key()),
        b'A' => {
            let view = Notification::parse(body).ok()?;
            backend::notification(&mut out, view.pid, view.channel, view.payload);
        }
        b'C' => {
            let text = std::str::from_utf8(backend::command_tag(body)?).ok()?;
            backend::command_complete(&mut out, text);
        }
        b'E' | b'N' => {
            let read: usize = ErrorView::new(body)
                .fields()
                .map(|(_, text)| text.len() + 2)
                .sum();
            assert!(read <= body.len());
            return None;
        }
        b'R' => match Authentication::parse(body).ok()? {
            Authentication::Ok => backend::authentication_ok(&mut out),
            Authentication::Cleartext => backend::authentication_cleartext(&mut out),
            Authentication::Md5(salt) => backend::authentication_md5(&mut out, salt),
            Authentication::SaslContinue(data) => {
                backend::authentication_sasl_continue(&mut out, data);
            }
            Authentication::Sasl(list) => {
                assert!(list.names().all(|name| !name.is_empty()));
                return None;
            }
            Authentication::SaslFinal(_) | Authentication::Other(_) => return None,
        },
        b'v' => {
            backend::NegotiateProtocolVersion::parse(body).ok()?;
            return None;
        }
        _ => return None,
    }
    Some(out)
}

/// Takes a first packet that comes in chunks of this size.
pub(super) fn take_first(
    input: &[u8],
    size: usize,
) -> (Result<Option<FirstPacket>, StartupError>, Vec<u8>) {
    let mut buffer = BytesMut::new();
    let mut unread = input;
    loop {
        match first_packet(&mut buffer) {
            Ok(None) if !unread.is_empty() => {
                let (chunk, rest) = unread.split_at(size.clamp(1, unread.len()));
                buffer.extend_from_slice(chunk);
                unread = rest;
            }
            result => return (result, [&buffer[..], unread].concat()),
        }
    }
}

/// A first packet is the same however it comes, takes its own bytes only, and reads as it is written.
pub(super) fn startup(input: &[u8], size: usize) {
    let (result, left) = take_first(input, size);
    assert_eq!(
        result,
        take_first(input, usize::MAX).0,
        "chunks make a difference"
    );
    let mut out = BytesMut::new();
    match result {
        Ok(None) => return assert_eq!(left, input),
        Ok(Some(FirstPacket::DirectTls)) => return assert_eq!(left, input),
        Ok(Some(FirstPacket::SslRequest)) => frontend::ssl_request(&mut out),
        Ok(Some(FirstPacket::Cancel(key))) => frontend::cancel_request(&mut out, &key),
        Ok(Some(FirstPacket::Startup(startup))) if startup.protocol_options.is_empty() => {
            assert!(!startup.user().is_empty() && !startup.database().is_empty());
            let pairs = startup.parameters.iter();
            let pairs = pairs.map(|(name, value)| (&name[..], &value[..]));
            frontend::startup(&mut out, startup.minor, pairs);
        }
        Ok(Some(_)) | Err(_) => return,
    }
    assert_eq!(
        [&out[..], &left[..]].concat(),
        input,
        "what was read is not what was written"
    );
}
