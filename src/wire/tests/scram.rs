//! Both sides of SCRAM, against the RFC, against each other and against a client that is not ours.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use crate::wire::scram::{ClientExchange, ClientKey, ScramError, ServerExchange, Verifier};

const SALT: &[u8] = b"0123456789abcdef";
const ROUNDS: u32 = 16;

fn server(password: &[u8]) -> ServerExchange {
    ServerExchange::new(Verifier::from_password(password, SALT, ROUNDS), [1; 18])
}

/// Logs a client of ours in at a server of ours.
fn login(client: ClientExchange, server: ServerExchange) -> Result<ClientKey, ScramError> {
    let (server, server_first) = server.first(&client.first()?)?;
    let (client, proof) = client.proof(&server_first)?;
    let (server_final, recovered) = server.finish(&proof)?;
    assert_eq!(client.finish(&server_final)?.client_key, recovered);
    Ok(recovered)
}

#[test]
fn a_client_with_the_password_is_let_in() {
    assert!(
        login(
            ClientExchange::with_password(b"pencil", [2; 18]),
            server(b"pencil")
        )
        .is_ok()
    );
}

#[test]
fn the_recovered_key_logs_in_at_every_server_with_that_verifier() {
    let first = ClientExchange::with_password(b"pencil", [2; 18]);
    let recovered = login(first, server(b"pencil")).unwrap();
    let verifier = Verifier::from_password(b"pencil", SALT, ROUNDS);
    for server_key in [None, Some(verifier.server_key)] {
        let second = ClientExchange::with_keys(recovered.clone(), server_key, [3; 18]);
        assert_eq!(login(second, server(b"pencil")).as_ref(), Ok(&recovered));
    }
    assert_eq!(format!("{recovered:?}"), "ClientKey(…)");
}

#[test]
fn a_wrong_password_is_refused() {
    let client = ClientExchange::with_password(b"pen", [2; 18]);
    let refused = login(client, server(b"pencil"));
    assert_eq!(refused, Err(ScramError::WrongProof));
    assert_eq!(ScramError::WrongProof.sqlstate().0, "28P01");
}

#[test]
fn a_client_that_is_not_ours_is_let_in() {
    for password in ["pencil", "", "p\u{e4}ssw\u{f6}rd", "\u{2168}", "I\u{ad}X"] {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unrequested());
        let (server, answer) = server(password.as_bytes()).first(client.message()).unwrap();
        client.update(&answer).unwrap();
        let (answer, _key) = server.finish(client.message()).unwrap();
        client.finish(&answer).unwrap();
    }
}

#[test]
fn a_password_beyond_ascii_is_normalised_and_others_are_taken_as_they_are() {
    let key = |password: &[u8]| Verifier::from_password(password, SALT, ROUNDS);
    assert_eq!(key("\u{2168}".as_bytes()), key(b"IX"));
    assert_eq!(key("I\u{ad}X".as_bytes()), key(b"IX"));
    assert_ne!(key(b"caf\xe9"), key(b"caf"));
    assert_ne!(key(b"a\x07"), key(b"a"));
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_found_out() {
    let verifier = Verifier::from_password(b"pencil", SALT, ROUNDS);
    let mut other = verifier.clone();
    other.server_key = Verifier::mock(b"secret", b"user").server_key;
    let client = ClientExchange::with_password(b"pencil", [2; 18]);
    let refused = login(client, ServerExchange::new(other, [1; 18]));
    assert_eq!(refused, Err(ScramError::WrongServer));
}

#[test]
fn an_unknown_user_gets_the_same_challenge_each_time_and_no_way_in() {
    let challenge = |user: &[u8]| {
        let exchange = ServerExchange::new(Verifier::mock(b"secret", user), [1; 18]);
        exchange.first(b"n,,n=,r=x").unwrap().1
    };
    assert_eq!(challenge(b"nobody"), challenge(b"nobody"));
    assert_ne!(challenge(b"nobody"), challenge(b"no one"));
    let mock = Verifier::mock(b"secret", b"nobody");
    assert_eq!((mock.iterations, mock.salt.len()), (4096, 16));
    let real = ServerExchange::new(Verifier::from_password(b"x", SALT, 4096), [1; 18]);
    let (_, real) = real.first(b"n,,n=,r=x").unwrap();
    assert_eq!(challenge(b"nobody").len(), real.len());
    let client = ClientExchange::with_password(b"", [2; 18]);
    let refused = login(client, ServerExchange::new(mock, [1; 18]));
    assert_eq!(refused, Err(ScramError::WrongProof));
}

#[test]
fn a_first_message_that_asks_for_too_much_is_refused() {
    let cases: &[(&[u8], ScramError)] = &[
        (
            b"p=tls-server-end-point,,n=,r=x",
            ScramError::ChannelBinding,
        ),
        (b"n,a=root,n=,r=x", ScramError::AuthorizationIdentity),
        (b"n,,m=x,n=,r=x", ScramError::Extension),
        (b"n,,n=,r=", ScramError::Malformed),
        (b"n,,n=,r=a\x7f", ScramError::Malformed),
        (b"n,,r=x", ScramError::Malformed),
        (b"x,,n=,r=x", ScramError::Malformed),
        (b"", ScramError::Malformed),
    ];
    for (message, error) in cases {
        assert_eq!(
            server(b"x").first(message).map(|_| ()),
            Err(*error),
            "{message:?}"
        );
    }
}

#[test]
fn a_last_message_of_another_exchange_is_refused() {
    let (server, answer) = server(b"x").first(b"y,,n=,r=x").unwrap();
    let nonce = answer.split(|&byte| byte == b',').next().unwrap();
    let proof = b",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let with = |front: &[u8], nonce: &[u8], back: &[u8]| [front, nonce, back].concat();
    let cases = [
        (with(b"c=eSws,", nonce, proof), ScramError::WrongProof),
        (with(b"c=biws,", nonce, proof), ScramError::Malformed),
        (with(b"c=eSws,", b"r=x", proof), ScramError::Nonce),
        (with(b"c=eSws,", nonce, b""), ScramError::Malformed),
        (with(b"c=eSws,", nonce, b",p=AAAA"), ScramError::Malformed),
        (
            with(b"c=eSws,", nonce, &[proof, &b",x=y"[..]].concat()),
            ScramError::Malformed,
        ),
    ];
    for (message, error) in cases {
        let result = server.clone().finish(&message);
        assert_eq!(result.map(|_| ()), Err(error), "{message:?}");
    }
}

#[test]
fn a_server_that_repeats_or_overasks_is_refused() {
    let client = || ClientExchange::with_password(b"x", [0; 18]);
    let ours = "A".repeat(24);
    let cases = [
        (format!("r={ours},s=AAAA,i=1"), ScramError::Nonce),
        ("r=other,s=AAAA,i=1".to_owned(), ScramError::Nonce),
        (
            format!("r={ours}x,s=AAAA,i=4000000000"),
            ScramError::Iterations(4_000_000_000),
        ),
        (format!("r={ours}x,s=AAAA,i=0"), ScramError::Malformed),
        (format!("r={ours}x,s=?,i=1"), ScramError::Malformed),
        (format!("r={ours}x"), ScramError::Malformed),
    ];
    for (message, error) in cases {
        let result = client().proof(message.as_bytes());
        assert_eq!(result.map(|_| ()), Err(error), "{message}");
    }
    let (client, _) = client()
        .proof(format!("r={ours}x,s=AAAA,i=1").as_bytes())
        .unwrap();
    assert_eq!(
        client.clone().finish(b"e=other-error"),
        Err(ScramError::Refused)
    );
    assert_eq!(client.finish(b"v=AAAA"), Err(ScramError::Malformed));
}

#[test]
fn a_step_out_of_order_is_refused() {
    let (after_first, _) = server(b"x").first(b"n,,n=,r=x").unwrap();
    let again = after_first.first(b"n,,n=,r=x").map(|_| ());
    assert_eq!(again, Err(ScramError::OutOfOrder));
    assert_eq!(
        server(b"x").finish(b"").map(|_| ()),
        Err(ScramError::OutOfOrder)
    );
    let client = ClientExchange::with_password(b"x", [2; 18]);
    assert_eq!(client.finish(b""), Err(ScramError::OutOfOrder));
}

#[test]
fn a_verifier_reads_as_postgres_stores_it() {
    // The password and the salt of RFC 7677.
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let verifier: Verifier = text.parse().unwrap();
    assert_eq!(verifier.to_string(), text);
    let salt = verifier.salt.clone();
    assert_eq!(verifier, Verifier::from_password(b"pencil", &salt, 4096));
    assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
}

#[test]
fn a_verifier_of_another_library_reads_back() {
    let text = postgres_protocol::password::scram_sha_256(b"p\xc3\xa4ss");
    let verifier: Verifier = text.parse().unwrap();
    let salt = verifier.salt.clone();
    assert_eq!(
        verifier,
        Verifier::from_password(b"p\xc3\xa4ss", &salt, verifier.iterations)
    );
}

#[test]
fn what_is_no_verifier_is_refused_without_being_told() {
    let key = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
    for text in [
        "pencil".to_owned(),
        "md5d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        format!("SCRAM-SHA-256$0:AAAA${key}:{key}"),
        format!("SCRAM-SHA-256$+1:AAAA${key}:{key}"),
        format!("SCRAM-SHA-256$1:AAAA${key}"),
        format!("SCRAM-SHA-256$1:AAAA${key}:AAAA"),
    ] {
        let error = text.parse::<Verifier>().unwrap_err();
        assert!(!error.to_string().contains(&text));
    }
}

proptest! {
    #[test]
    fn any_messages_are_answered_or_refused(
        first in prop::collection::vec(prop::sample::select(&b"ny,p=ram xc\0\xff"[..]), 0..24),
        last in prop::collection::vec(prop::sample::select(&b"cr,p=biwsA\0\xff"[..]), 0..24),
    ) {
        let exchange = || ServerExchange::new(Verifier::mock(b"s", b"u"), [1; 18]);
        if let Ok((server, _)) = exchange().first(&first) {
            prop_assert!(server.finish(&last).is_err());
        }
        let (server, _) = exchange().first(b"n,,n=,r=x").unwrap();
        prop_assert!(server.finish(&last).is_err());
        let client = || ClientExchange::with_password(b"x", [2; 18]);
        prop_assert!(client().proof(&first).is_err());
        prop_assert!(client().proof(&last).is_err());
    }
}
