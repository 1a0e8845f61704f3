//! Logins at servers that vanish, hang, lie or refuse.

use std::time::Duration;

use super::fake::{Fake, Script, frame, login, plain, welcome};
use crate::cluster::Address;
use crate::upstream::cancel::cancel;
use crate::upstream::login::{LoggedIn, log_in};
use crate::upstream::{AuthMethod, ConnectError, Fault, Secret};
use crate::wire::CancelKey;

const LONG: Duration = Duration::from_secs(10);

async fn log_in_at(script: Script) -> Result<LoggedIn, ConnectError> {
    let fake = Fake::start(script).await;
    log_in(&fake.address, &plain(), &login(Secret::None), LONG).await
}

#[tokio::test]
async fn a_login_brings_the_parameters_and_the_key() {
    let logged_in = log_in_at(Script::Say(welcome("on"))).await.unwrap();
    let parameters: Vec<_> = logged_in.parameters.into_iter().collect();
    assert_eq!(
        parameters,
        [
            ("in_hot_standby".to_owned(), "on".to_owned()),
            ("server_version".to_owned(), "15.1".to_owned())
        ]
    );
    let key = logged_in.cancel_key.unwrap();
    assert_eq!((key.pid, &key.secret[..]), (0, &b"key!"[..]));
}

#[tokio::test]
async fn a_server_that_vanishes_after_any_byte_is_a_reset() {
    let whole = welcome("off");
    for length in 0..whole.len() {
        let script = Script::SayAndClose(whole[..length].to_vec());
        let error = log_in_at(script).await.unwrap_err();
        assert_eq!(error, ConnectError::Reset, "after {length} bytes");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_timed_out() {
    let whole = welcome("off");
    for length in [0, 1, 5, 9, whole.len() - 1] {
        let fake = Fake::start(Script::Say(whole[..length].to_vec())).await;
        let limit = Duration::from_millis(30);
        let error = log_in(&fake.address, &plain(), &login(Secret::None), limit)
            .await
            .unwrap_err();
        assert_eq!(error, ConnectError::TimedOut, "after {length} bytes");
    }
}

#[tokio::test]
async fn a_notice_during_the_login_is_passed_over() {
    let notice = frame(b'N', b"SNOTICE\0Mhello\0\0");
    let script = Script::Say([notice, welcome("off")].concat());
    log_in_at(script).await.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_is_quoted() {
    let body = b"SFATAL\0VFATAL\0C28P01\0Mno\0\0";
    let error = log_in_at(Script::SayAndClose(frame(b'E', body)))
        .await
        .unwrap_err();
    let said = error.server_error().unwrap();
    assert_eq!(said.sqlstate, "28P01");
    assert_eq!(&said.body[..], body);
    assert_eq!(error.fault(), Fault::Client);
}

#[tokio::test]
async fn hostile_bytes_are_protocol_errors() {
    let ok = frame(b'R', &[0; 4]);
    let ready = frame(b'Z', b"I");
    for (what, script) in [
        ("no frame", b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
        ("length zero", b"R\0\0\0\0".to_vec()),
        ("length below its own", b"R\0\0\0\x03".to_vec()),
        ("huge length", b"R\x7f\xff\xff\xff".to_vec()),
        ("negative length", b"R\xff\xff\xff\xff".to_vec()),
        ("short authentication", frame(b'R', b"\0\0")),
        ("ready before authentication", ready.clone()),
        (
            "row after authentication",
            [ok.clone(), frame(b'D', b"\0\0")].concat(),
        ),
        (
            "parameter without end",
            [ok.clone(), frame(b'S', b"a\0b")].concat(),
        ),
        (
            "parameter of three",
            [ok.clone(), frame(b'S', b"a\0b\0c\0")].concat(),
        ),
        ("short key", [ok.clone(), frame(b'K', b"\0\0\0")].concat()),
        ("long key", [ok.clone(), frame(b'K', &[7; 400])].concat()),
        ("long notice", frame(b'N', &[b'x'; 40_000])),
        (
            "ready in a transaction",
            [ok.clone(), frame(b'Z', b"T")].concat(),
        ),
        (
            "ready without a state",
            [ok.clone(), frame(b'Z', b"")].concat(),
        ),
        (
            "more after ready",
            [ok.clone(), ready, frame(b'Z', b"I")].concat(),
        ),
        ("no end of notices", frame(b'N', &[b'x'; 30_000]).repeat(20)),
    ] {
        match log_in_at(Script::Say(script)).await {
            Err(ConnectError::Protocol(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_what_we_have_not_is_told_apart() {
    for (body, method) in [
        (&b"\0\0\0\x03"[..], AuthMethod::Cleartext),
        (b"\0\0\0\x05salt", AuthMethod::Md5),
        (b"\0\0\0\x07", AuthMethod::Other(7)),
        (b"\0\0\0\x0AMAGIC\0\0", AuthMethod::OtherSasl),
        (b"\0\0\0\x0ASCRAM-SHA-256\0\0", AuthMethod::Scram),
    ] {
        let request = frame(b'R', body);
        let error = log_in_at(Script::Say(request)).await.unwrap_err();
        let secret = "no secret";
        assert_eq!(error, ConnectError::AuthUnsupported { method, secret });
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_refused() {
    let fake = Fake::start(Script::Say(Vec::new())).await;
    let address: Address = fake.address.clone();
    fake.stop().await;
    let error = log_in(&address, &plain(), &login(Secret::None), LONG)
        .await
        .unwrap_err();
    assert_eq!(error, ConnectError::Refused);
}

#[tokio::test]
async fn a_login_with_a_nul_is_not_sent() {
    let fake = Fake::start(Script::Say(welcome("off"))).await;
    let mut login = (*login(Secret::None)).clone();
    login.database = "app\0replication\0true".into();
    let error = log_in(&fake.address, &plain(), &login, LONG)
        .await
        .unwrap_err();
    assert_eq!(error, ConnectError::InvalidLogin);
}

#[tokio::test]
async fn a_cancel_waits_for_the_server_to_close() {
    let key = CancelKey {
        pid: 7,
        secret: (&b"key!"[..]).into(),
    };
    let closing = Fake::start(Script::SayAndClose(Vec::new())).await;
    assert_eq!(cancel(&closing.address, &plain(), &key, LONG).await, Ok(()));
    let silent = Fake::start(Script::Say(Vec::new())).await;
    let limit = Duration::from_millis(30);
    let result = cancel(&silent.address, &plain(), &key, limit).await;
    assert_eq!(result, Err(ConnectError::TimedOut));
}
