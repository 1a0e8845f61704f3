//! Bringing a node back as a replica, by a base backup of another node.
//!
//! Not by `pg_basebackup`, which some packages leave out: the files are on this machine, so the
//! functions of the low-level backup and a copy do the same.

use std::fs;

use tokio_postgres::Client;

use super::cluster::{LocalCluster, off_the_runtime};
use super::error::LocalError;
use super::node::{Node, StopMode};
use super::options::SUPERUSER;
use super::template::Part;

impl LocalCluster {
    /// Throws a node's data away and makes it a replica of another one, which must run.
    ///
    /// # Errors
    ///
    /// When the other node cannot be backed up, or the new replica does not come up.
    pub async fn rejoin_as_replica(&self, index: usize, of: usize) -> Result<(), LocalError> {
        if index == of {
            return Err(LocalError::FollowsItself { index });
        }
        let (node, origin) = (self.node(index)?, self.node(of)?);
        node.stop(StopMode::Immediate).await?;
        let client = origin.connect(SUPERUSER, None, SUPERUSER).await?;
        self.backup(origin, &client, node).await?;
        self.make_replica(node, origin.address())?;
        node.start(&self.workshop).await?;
        self.wait_until_streaming(index).await
    }

    /// Source: PostgreSQL 15, continuous-archiving.html, "Making a Base Backup Using the Low Level
    /// API". The WAL that belongs to it comes by streaming.
    async fn backup(&self, from: &Node, client: &Client, to: &Node) -> Result<(), LocalError> {
        let (begin, end) = if self.workshop.programs.major < 15 {
            (
                "pg_start_backup('rejoin', true, false)",
                "pg_stop_backup(false, false)",
            )
        } else {
            ("pg_backup_start('rejoin', true)", "pg_backup_stop(false)")
        };
        let begin = format!("SELECT {begin}");
        client.batch_execute(&begin).await.map_err(from.refused())?;
        self.copy_at_work(from, to).await?;
        let end = format!("SELECT labelfile FROM {end}");
        let row = client.query_one(&end, &[]).await.map_err(from.refused())?;
        let label: String = row.try_get(0).map_err(from.refused())?;
        let path = to.data.join("backup_label");
        fs::write(&path, label)
            .and_then(|()| self.workshop.account.own(&path))
            .map_err(LocalError::system(format!("write {}", path.display())))
    }

    async fn copy_at_work(&self, from: &Node, to: &Node) -> Result<(), LocalError> {
        let workshop = self.workshop.clone();
        let (source, target) = (from.data.clone(), to.data.clone());
        off_the_runtime(move || {
            fs::remove_dir_all(&target)
                .map_err(LocalError::system(format!("remove {}", target.display())))?;
            workshop.copy(&source, &target, Part::Backup)?;
            // The control file last, as a backup of a replica needs it.
            let control = target.join("global/pg_control");
            fs::copy(source.join("global/pg_control"), &control)
                .and_then(|_| workshop.account.own(&control))
                .map_err(LocalError::system(format!("write {}", control.display())))?;
            Ok(())
        })
        .await
    }
}
