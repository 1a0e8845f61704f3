//! The sockets that we listen on: opened, or taken over from the process before.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use super::AppError;
use super::handover::Inherited;
use crate::cluster::Address;
use crate::config::Config;
use crate::net::{self, FileClaim, Spare, UnixDoor};

/// Everything that is listened on.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) clients: Vec<Door>,
    pub(super) unix: Option<UnixDoor>,
    pub(super) http: Option<Door>,
    /// Where the next process comes.
    pub(super) restart: Option<UnixDoor>,
}

/// A TCP listener, and where it is.
#[derive(Debug)]
pub(super) struct Door {
    name: String,
    pub(super) listener: TcpListener,
    pub(super) address: Option<SocketAddr>,
}

/// A socket for the next process, by the name under which it knows it.
pub(super) type NamedSpare = (String, Spare);

impl Doors {
    /// Opens what the configuration says. What was inherited under the same setting is not opened
    /// anew; what was inherited and is not asked for is closed by the caller.
    pub(super) async fn open(config: &Config, inherited: &mut Inherited) -> Result<Self, AppError> {
        let mut clients = Vec::new();
        for address in &config.listen.postgres {
            clients.push(open("postgres", address, inherited).await?);
        }
        let unix = match &config.listen.unix_socket {
            Some((directory, mode)) => {
                // It is named by the port of the first listener.
                let port = clients.iter().find_map(|door| Some(door.address?.port()));
                let path = net::socket_path(directory, port.unwrap_or_default());
                Some(open_unix("unix", path, *mode, inherited)?)
            }
            None => None,
        };
        let http = match &config.listen.http {
            Some(address) => Some(open("http", address, inherited).await?),
            None => None,
        };
        let restart = match &config.restart_socket {
            Some(path) => Some(open_unix("restart", path.clone(), 0o600, inherited)?),
            None => None,
        };
        Ok(Self {
            clients,
            unix,
            http,
            restart,
        })
    }

    /// The rights to the files that come with what was inherited.
    pub(super) fn claims(&self) -> Vec<FileClaim> {
        let unix = self.unix.iter().chain(&self.restart);
        unix.map(UnixDoor::claim).collect()
    }

    /// A second hold on each of them.
    pub(super) fn spares(&self) -> io::Result<Vec<NamedSpare>> {
        let mut spares = Vec::new();
        for door in self.clients.iter().chain(&self.http) {
            spares.push((door.name.clone(), Spare::of_tcp(&door.listener)?));
        }
        for (kind, door) in [("unix", &self.unix), ("restart", &self.restart)] {
            if let Some(door) = door {
                spares.push((unix_name(kind, door.path()), door.spare()?));
            }
        }
        Ok(spares)
    }
}

/// Opens a listener. A name is looked up; all its addresses are tried.
async fn open(kind: &str, address: &Address, inherited: &mut Inherited) -> Result<Door, AppError> {
    let failed = |cause| AppError::Listen {
        address: address.clone(),
        cause,
    };
    let name = format!("{kind} {address}");
    let door = |listener: TcpListener| Door {
        address: listener.local_addr().ok(),
        name: name.clone(),
        listener,
    };
    if let Some(socket) = inherited.take(&name) {
        return net::inherit(socket).map(door).map_err(failed);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    for candidate in found.map_err(failed)? {
        match net::listen(candidate) {
            Ok(listener) => return Ok(door(listener)),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn open_unix(
    kind: &str,
    path: PathBuf,
    mode: u32,
    inherited: &mut Inherited,
) -> Result<UnixDoor, AppError> {
    let door = match inherited.take(&unix_name(kind, &path)) {
        Some(socket) => net::inherit_unix(socket, &path),
        None => net::listen_unix(&path, mode),
    };
    door.map_err(|cause| AppError::ListenUnix { path, cause })
}

fn unix_name(kind: &str, path: &std::path::Path) -> String {
    format!("{kind} {}", path.display())
}
