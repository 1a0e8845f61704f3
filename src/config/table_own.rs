//! The rows of the table that stand below `[user.NAME]` and `[database.NAME]`: what one of them has
//! instead of what everybody has. What is not written is as it is for everybody.

use super::settings::Applies::Reload;
use super::settings::{Kind, Setting};
use super::table::{TIME, TIME_OR_OFF};

const fn own(key: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting {
        key,
        kind,
        default: None,
        applies: Reload,
        doc,
    }
}

/// The rows of a user, or of a database.
macro_rules! rows {
    ($what:literal, $clients:literal) => {
        [
            own(
                concat!($what, ".*.max_clients"),
                Kind::Count {
                    min: 1,
                    max: 1_000_000,
                },
                $clients,
            ),
            own(
                concat!($what, ".*.pool_size"),
                Kind::Count {
                    min: 1,
                    max: 10_000,
                },
                "Instead of `size` in `[cluster.NAME.pool]`.",
            ),
            own(
                concat!($what, ".*.pool_queue"),
                Kind::Count {
                    min: 0,
                    max: 1_000_000,
                },
                "Instead of `queue` in `[cluster.NAME.pool]`.",
            ),
            own(
                concat!($what, ".*.wait_timeout"),
                TIME,
                "Instead of `wait_timeout` in `[cluster.NAME.pool]`.",
            ),
            own(
                concat!($what, ".*.idle_timeout"),
                TIME_OR_OFF,
                "Instead of `idle_timeout` in `[limits]`.",
            ),
            own(
                concat!($what, ".*.idle_in_transaction_timeout"),
                TIME_OR_OFF,
                "Instead of `idle_in_transaction_timeout` in `[limits]`.",
            ),
            own(
                concat!($what, ".*.query_timeout"),
                TIME_OR_OFF,
                "Instead of `query_timeout` in `[limits]`.",
            ),
            own(
                concat!($what, ".*.transaction_timeout"),
                TIME_OR_OFF,
                "Instead of `transaction_timeout` in `[limits]`.",
            ),
        ]
    };
}

/// What one user has.
pub(super) const USER: &[Setting] = &rows!(
    "user",
    "How many clients of this user may be connected; one more is refused with `53300`. Where a \
     user and a database both have something to say, the user's word holds; of `max_clients` both \
     do."
);

/// What one database has.
pub(super) const DATABASE: &[Setting] = &rows!(
    "database",
    "How many clients of this database may be connected; one more is refused with `53300`."
);
