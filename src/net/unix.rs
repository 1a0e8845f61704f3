//! Unix sockets: a file in a directory, as PostgreSQL names it, and who is at the other end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::{Line, Spare, Stream};

/// A listening Unix socket. Its file goes with it.
#[derive(Debug)]
pub struct UnixDoor {
    pub(super) listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket of ours; removed when dropped, unless somebody has put another there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
    /// Another process has the socket now, and its file.
    stays: Arc<AtomicBool>,
}

/// The right to remove the file of a socket that was inherited.
#[derive(Debug)]
pub struct FileClaim(Arc<AtomicBool>);

impl FileClaim {
    /// The file is ours from here on, and goes with our socket.
    pub fn take(self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The file of the socket of a server, or of ours: as PostgreSQL names it.
pub fn socket_path(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// Opens a listening socket whose file has this mode. What a process that was killed has left is
/// replaced.
///
/// # Errors
///
/// `AddrInUse` when somebody listens there, `AlreadyExists` when the file is no socket, else what
/// the file system says.
pub fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixDoor> {
    make_room(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::find(path)?;
    // Nobody can connect before it listens: who may is settled by then.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok(UnixDoor { listener, file })
}

/// A Unix socket that another process has opened. Its file stays that one's until
/// [`FileClaim::take`].
///
/// # Errors
///
/// When it is none, or its file is gone.
pub fn inherit_unix(socket: OwnedFd, path: &Path) -> io::Result<UnixDoor> {
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    listener.local_addr()?;
    let file = SocketFile::find(path)?;
    file.stays.store(true, Ordering::Release);
    Ok(UnixDoor {
        listener: UnixListener::from_std(listener)?,
        file,
    })
}

/// Connects to whoever listens at this file.
///
/// # Errors
///
/// When nobody does, or we may not.
pub async fn connect_unix(path: &Path) -> io::Result<Stream> {
    UnixStream::connect(path).await.map(Stream::Unix)
}

/// Removes the file of a socket at which nobody listens.
fn make_room(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            let text = "a file that is no socket is in the way";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog must not make us wait: somebody listens then, too.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl UnixDoor {
    /// Where its file is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The right to its file, for one that was inherited.
    pub fn claim(&self) -> FileClaim {
        FileClaim(Arc::clone(&self.file.stays))
    }

    /// A second hold on it, to be given to another process.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn spare(&self) -> io::Result<Spare> {
        Spare::of(&self.listener, Some(Arc::clone(&self.file.stays)))
    }

    /// Waits for another process of ours. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// What the socket says; it may go on working.
    pub async fn accept_line(&self) -> io::Result<Line> {
        let (stream, _unnamed) = self.listener.accept().await?;
        Ok(Line::new(stream))
    }
}

impl SocketFile {
    fn find(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inode: std::fs::symlink_metadata(path)?.ino(),
            stays: Arc::default(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Acquire) {
            return;
        }
        let is_ours = |there: std::fs::Metadata| there.ino() == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), error = %error, "could not remove a socket");
        }
    }
}

/// The name of a user of this machine, as `/etc/passwd` has it. Users that only a directory service
/// knows have none.
pub fn user_name(uid: u32) -> Option<String> {
    find_name(&std::fs::read_to_string("/etc/passwd").ok()?, uid)
}

fn find_name(passwd: &str, wanted: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        (uid == wanted).then(|| name.to_owned())
    })
}

/// Connections that the kernel holds while we are busy.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let name = format!("pgherd-unix-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_when_it_is_closed() {
        let directory = directory("mode");
        let path = socket_path(&directory, 6432);
        let door = listen_unix(&path, 0o700).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        UnixStream::connect(&path).await.unwrap();
        let kind = listen_unix(&path, 0o700).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AddrInUse);
        drop(door);
        assert!(!path.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced_and_other_files_are_not() {
        let directory = directory("stale");
        let path = socket_path(&directory, 1);
        // std leaves the file when it closes a listener.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let old = listen_unix(&path, 0o777).unwrap();
        // Somebody takes the place of ours: that one's file stays.
        std::fs::remove_file(&path).unwrap();
        let new = listen_unix(&path, 0o777).unwrap();
        drop(old);
        UnixStream::connect(&path).await.unwrap();
        drop(new);
        std::fs::write(&path, "precious").unwrap();
        let kind = listen_unix(&path, 0o777).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn the_file_of_a_socket_that_was_given_away_stays_with_who_has_it() {
        let directory = directory("given");
        let path = socket_path(&directory, 2);
        let old = listen_unix(&path, 0o700).unwrap();
        let spare = old.spare().unwrap();
        let copy = spare.as_fd().try_clone_to_owned().unwrap();
        // A process that does not come so far leaves the file to the old one.
        let failed = copy.try_clone().unwrap();
        drop(inherit_unix(failed, &path).unwrap());
        assert!(path.exists());
        let new = inherit_unix(copy, &path).unwrap();
        spare.given_away();
        new.claim().take();
        drop(old);
        UnixStream::connect(&path).await.unwrap();
        drop(new);
        assert!(!path.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_user_is_found_by_its_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
        assert_eq!(find_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(find_name(passwd, 100), None);
    }
}
