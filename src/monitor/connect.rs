//! A connection of the control plane, and what its errors tell about a server.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::MonitorSettings;
use crate::cluster::{Address, ProbeFailure};
use crate::upstream::{InForce, tls_failure};

/// A client and the task that moves its bytes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    tls: InForce,
    driver: JoinHandle<()>,
}

impl Link {
    /// Connects and logs in, within the limit of the settings.
    pub(super) async fn open(
        address: &Address,
        settings: &MonitorSettings,
    ) -> Result<Self, ProbeFailure> {
        let mut config = Config::new();
        config
            .host(&address.host)
            .port(address.port)
            .user(&settings.user)
            .dbname(&settings.database)
            .application_name(&settings.application_name)
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives_idle(KEEPALIVE);
        if let Some(password) = &settings.password {
            config.password(password);
        }
        let tls = settings.tls.in_force();
        // Its own limit covers the TCP connect only; a stopped server accepts and then is silent.
        let connected = timeout(settings.connect_timeout, settings.tls.connect(&mut config)).await;
        let (client, connection) = match connected {
            Err(_elapsed) => return Err(ProbeFailure::TimedOut),
            Ok(Err(error)) => {
                return Err(match (failure_of(&error), &settings.password) {
                    // The server asked for a password, and we have none to give.
                    (ProbeFailure::Other { .. }, None) if error.as_db_error().is_none() => {
                        ProbeFailure::LoginRefused {
                            sqlstate: "28P01".into(),
                        }
                    }
                    (failure, _) => failure,
                });
            }
            Ok(Ok(pair)) => pair,
        };
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "monitor connection ended");
            }
        });
        Ok(Self {
            client,
            tls,
            driver,
        })
    }

    /// Whether it is encrypted as connections are now.
    pub(super) fn is_as_wanted(&self, settings: &MonitorSettings) -> bool {
        settings.tls.is_in_force(&self.tls)
    }

    /// Waits until the server, or the network, ends the connection. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = (&mut self.driver).await {
            tracing::debug!(%error, "monitor connection task ended");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What an error tells about the server.
pub(super) fn failure_of(error: &tokio_postgres::Error) -> ProbeFailure {
    if let Some(db) = error.as_db_error() {
        return failure_of_state(db.code());
    }
    if let Some(why) = tls_failure(error) {
        return ProbeFailure::TlsFailed { why };
    }
    if let Some(kind) = io_kind(error) {
        return match kind {
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => ProbeFailure::Refused,
            ErrorKind::TimedOut => ProbeFailure::TimedOut,
            _ => ProbeFailure::Unreachable,
        };
    }
    match error.is_closed() {
        true => ProbeFailure::Refused,
        false => ProbeFailure::Other {
            sqlstate: "XX000".into(),
        },
    }
}

fn failure_of_state(state: &SqlState) -> ProbeFailure {
    let code = state.code();
    match code {
        "57P03" | "57P01" | "57P02" => ProbeFailure::StartingUp,
        "53300" => ProbeFailure::Full,
        "3D000" | "42501" => ProbeFailure::LoginRefused {
            sqlstate: code.into(),
        },
        _ if code.starts_with("28") => ProbeFailure::LoginRefused {
            sqlstate: code.into(),
        },
        _ => ProbeFailure::Other {
            sqlstate: code.into(),
        },
    }
}

fn io_kind(error: &tokio_postgres::Error) -> Option<ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = cause.source();
    }
    None
}

/// Unacknowledged bytes end a connection after this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is tested after this long.
const KEEPALIVE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_starting_server_is_told_apart_from_a_dead_one() {
        assert_eq!(
            failure_of_state(&SqlState::TOO_MANY_CONNECTIONS),
            ProbeFailure::Full
        );
        assert_eq!(
            failure_of_state(&SqlState::CANNOT_CONNECT_NOW),
            ProbeFailure::StartingUp
        );
        let refused = failure_of_state(&SqlState::INVALID_PASSWORD);
        assert_eq!(
            refused,
            ProbeFailure::LoginRefused {
                sqlstate: "28P01".into()
            }
        );
        assert!(refused.shows_life());
    }

    fn settings() -> MonitorSettings {
        MonitorSettings {
            connect_timeout: Duration::from_millis(50),
            ..MonitorSettings::default()
        }
    }

    #[tokio::test]
    async fn a_port_where_nothing_listens_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        let failure = Link::open(&address, &settings()).await.unwrap_err();
        assert_eq!(failure, ProbeFailure::Refused);
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_silent() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let failure = Link::open(&address, &settings()).await.unwrap_err();
        assert_eq!(failure, ProbeFailure::TimedOut);
        drop(listener);
    }
}
