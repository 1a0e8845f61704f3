//! What a replicated PostgreSQL cluster is: servers, positions in the WAL, timelines, what a probe
//! saw, and the immutable view of it all that sessions are given.
//!
//! Pure values without a clock or a socket. An [`std::time::Instant`] in here was read by somebody
//! else and says when something was true.

mod lsn;
mod observation;
mod own;
mod peers;
mod server;
mod snapshot;
mod timeline;

pub use lsn::{ByteCount, Lsn, LsnError};
pub use observation::{Observation, ProbeFailure, Receiver, ReceiverStatus, Sighting};
pub use own::Own;
pub use peers::{Peers, RouterId};
pub use server::{Address, AddressError, Role, ServerId};
pub use snapshot::{
    DownReason, Epoch, HoldCause, Lag, OutReason, PrimarySample, QuarantineReason, ServerState,
    ServerView, Snapshot, Writes,
};
pub use timeline::{Lineage, SystemId, Timeline};
