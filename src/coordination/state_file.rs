//! The state of a sole router: one JSON object, replaced as a whole and synced before it counts.
//!
//! It holds the newest history that was seen, so that an old primary that comes back after a
//! restart of the router is not believed; the decision of a promotion that is under way, so that
//! it goes forward with the same server; and the servers that must not be used. Addresses are
//! written, not numbers: the list of hosts may be edited between two runs.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::{Address, Epoch, Lineage, Lsn, SystemId, Timeline};
use crate::policy::Remembered;

/// Where the state of one cluster is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    path: PathBuf,
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system said no.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// It is not what we write. It is not ignored: to forget the newest timeline may cost data.
    #[error("{path} is not a state file of this version; check it, then remove it")]
    Garbled {
        /// The file.
        path: PathBuf,
    },
}

impl StateFile {
    /// The file at `path`; it need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads what was kept; `None` when nothing was yet.
    ///
    /// # Errors
    ///
    /// [`StateError::Read`] when the file cannot be read, [`StateError::Garbled`] when it is not
    /// ours.
    pub fn load(&self) -> Result<Option<Remembered>, StateError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StateError::Read {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let garbled = || StateError::Garbled {
            path: self.path.clone(),
        };
        let value: Value = serde_json::from_str(&text).map_err(|_syntax| garbled())?;
        from_json(&value).map(Some).ok_or_else(garbled)
    }

    /// Replaces what was kept. When this returns it survives a power failure.
    ///
    /// # Errors
    ///
    /// What the operating system says; the old state is then still whole.
    pub fn store(&self, memory: &Remembered) -> std::io::Result<()> {
        let mut text = to_json(memory).to_string();
        text.push('\n');
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        // The rename itself is durable only when the directory is.
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

fn to_json(memory: &Remembered) -> Value {
    let quarantined: Vec<_> = memory.quarantined.iter().map(Address::to_string).collect();
    json!({
        "v": VERSION,
        "epoch": memory.epoch.0,
        "system_id": memory.lineage.system_id.to_string(),
        "timeline": memory.lineage.timeline.0,
        "forked_at": memory.lineage.forked_at.to_string(),
        "primary": memory.primary.as_ref().map(Address::to_string),
        "decision": memory.decision.as_ref().map(Address::to_string),
        "quarantined": quarantined,
    })
}

fn from_json(value: &Value) -> Option<Remembered> {
    let text = |key: &str| value.get(key)?.as_str();
    let address = |key: &str| match value.get(key)? {
        Value::Null => Some(None),
        value => value.as_str()?.parse::<Address>().ok().map(Some),
    };
    if value.get("v")?.as_u64()? != VERSION {
        return None;
    }
    Some(Remembered {
        epoch: Epoch(value.get("epoch")?.as_u64()?),
        lineage: Lineage {
            system_id: SystemId(text("system_id")?.parse().ok()?),
            timeline: Timeline(u32::try_from(value.get("timeline")?.as_u64()?).ok()?),
            forked_at: text("forked_at")?.parse::<Lsn>().ok()?,
        },
        primary: address("primary")?,
        decision: address("decision")?,
        quarantined: value
            .get("quarantined")?
            .as_array()?
            .iter()
            .map(|address| address.as_str()?.parse().ok())
            .collect::<Option<Vec<_>>>()?,
    })
}

const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Remembered {
        Remembered {
            epoch: Epoch(7),
            lineage: Lineage {
                system_id: SystemId(u64::MAX),
                timeline: Timeline(3),
                forked_at: "0/16B3740".parse().unwrap(),
            },
            primary: Some("pg1:5432".parse().unwrap()),
            decision: None,
            quarantined: vec!["[::1]:6001".parse().unwrap()],
        }
    }

    #[test]
    fn what_is_stored_is_loaded_and_replaced_as_a_whole() {
        let directory = std::env::temp_dir().join(format!("pgherd-state-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = StateFile::new(directory.join("main.json"));
        assert_eq!(file.load().unwrap(), None);
        file.store(&memory()).unwrap();
        let later = Remembered {
            decision: Some("pg2:5432".parse().unwrap()),
            ..memory()
        };
        file.store(&later).unwrap();
        assert_eq!(file.load().unwrap(), Some(later));
        std::fs::write(directory.join("main.json"), "{\"v\":1}").unwrap();
        assert!(matches!(file.load(), Err(StateError::Garbled { .. })));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_directory_in_its_place_is_an_error_and_not_nothing() {
        let file = StateFile::new(std::env::temp_dir());
        assert!(matches!(file.load(), Err(StateError::Read { .. })));
        assert!(file.store(&memory()).is_err());
    }
}
