//! What can happen to the nodes of a cluster, on demand.

use std::time::Duration;

use super::cluster::LocalCluster;
use super::error::LocalError;
use super::node::StopMode;
use super::options::SUPERUSER;
use super::settings;
use super::sql::literal;

impl LocalCluster {
    /// Kills all processes of a node with SIGKILL, as when its machine loses power.
    ///
    /// # Errors
    ///
    /// [`LocalError::Late`] when they do not go.
    pub async fn kill9(&self, index: usize) -> Result<(), LocalError> {
        self.node(index)?.kill9().await
    }

    /// Stops a node.
    ///
    /// # Errors
    ///
    /// [`LocalError::Late`] when it does not stop.
    pub async fn stop(&self, index: usize, mode: StopMode) -> Result<(), LocalError> {
        self.node(index)?.stop(mode).await
    }

    /// Starts a node as it was: an old primary comes back as a primary.
    ///
    /// # Errors
    ///
    /// [`LocalError::ServerStopped`] or [`LocalError::Late`] when it does not come up.
    pub async fn start_node(&self, index: usize) -> Result<(), LocalError> {
        self.node(index)?.start(&self.workshop).await
    }

    /// Stops all processes of a node where they are (SIGSTOP): nothing is closed, nothing answers.
    ///
    /// # Errors
    ///
    /// [`LocalError::NotRunning`].
    pub fn hang(&self, index: usize) -> Result<(), LocalError> {
        self.node(index)?.hang()
    }

    /// Lets a node that hangs go on.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoSuchNode`].
    pub fn thaw(&self, index: usize) -> Result<(), LocalError> {
        self.node(index)?.thaw();
        Ok(())
    }

    /// Lets a replica receive WAL and not apply it.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`], also when the node is a primary.
    pub async fn pause_replay(&self, index: usize) -> Result<(), LocalError> {
        self.execute(index, "SELECT pg_wal_replay_pause()").await?;
        let paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
        // Version 13 knows no state between asked for and reached.
        let paused = match self.programs().major {
            13 => "SELECT pg_is_wal_replay_paused()",
            _ => paused,
        };
        self.wait_until_true(index, "paused", paused).await
    }

    /// Ends what [`LocalCluster::pause_replay`] began.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`].
    pub async fn resume_replay(&self, index: usize) -> Result<(), LocalError> {
        self.execute(index, "SELECT pg_wal_replay_resume()").await
    }

    /// Lets a replica apply each commit so much later than it happened, or at once with `None`.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`].
    pub async fn set_apply_delay(
        &self,
        index: usize,
        delay: Option<Duration>,
    ) -> Result<(), LocalError> {
        let value = delay.map(|delay| format!("{}ms", delay.as_millis()));
        self.alter_system(index, "recovery_min_apply_delay", value.as_deref())
            .await
    }

    /// Takes a replica's upstream away: it points to where nobody listens, until
    /// [`LocalCluster::follow`] or until somebody else points it to a server.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`].
    pub async fn cut_off(&self, index: usize) -> Result<(), LocalError> {
        // Port 1 needs no name resolution and refuses at once.
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let conninfo = settings::primary_conninfo(&self.node(index)?.name, nowhere);
        self.alter_system(index, "primary_conninfo", Some(&conninfo))
            .await?;
        let no_receiver =
            "SELECT count(*) = 0 FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        self.wait_until_true(index, "cut off", no_receiver).await
    }

    /// Points a replica to an upstream and waits until it streams from there.
    ///
    /// # Errors
    ///
    /// [`LocalError::Late`] when it cannot stream, for instance since it has diverged.
    pub async fn follow(&self, index: usize, upstream: usize) -> Result<(), LocalError> {
        if index == upstream {
            return Err(LocalError::FollowsItself { index });
        }
        let conninfo = settings::primary_conninfo(&self.node(index)?.name, self.address(upstream)?);
        self.alter_system(index, "primary_conninfo", Some(&conninfo))
            .await?;
        let port = self.address(upstream)?.port();
        let streams = format!(
            "SELECT count(*) = 1 FROM pg_stat_wal_receiver \
             WHERE status = 'streaming' AND sender_port = {port}"
        );
        self.wait_until_true(index, "streaming", &streams).await
    }

    /// Makes a replica a primary, as somebody would who does not ask the router.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`], also when the node is a primary.
    pub async fn promote(&self, index: usize) -> Result<(), LocalError> {
        self.execute(index, "SELECT pg_promote(false)").await?;
        self.wait_until_true(index, "promoted", "SELECT NOT pg_is_in_recovery()")
            .await
    }

    /// Waits until a replica receives WAL from whatever its upstream is.
    ///
    /// # Errors
    ///
    /// [`LocalError::Late`].
    pub async fn wait_until_streaming(&self, index: usize) -> Result<(), LocalError> {
        let streams = "SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        self.wait_until_true(index, "streaming", streams).await
    }

    /// Waits until a replica has applied what node `of`, a primary, has written until now.
    ///
    /// # Errors
    ///
    /// [`LocalError::Late`].
    pub async fn wait_until_replayed(&self, index: usize, of: usize) -> Result<(), LocalError> {
        let origin = self.node(of)?;
        let client = origin.connect(SUPERUSER, None, SUPERUSER).await?;
        let row = client
            .query_one("SELECT pg_current_wal_lsn()::text", &[])
            .await
            .map_err(origin.refused())?;
        let position: String = row.try_get(0).map_err(origin.refused())?;
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= {}", literal(&position));
        self.wait_until_true(index, "in step", &replayed).await
    }

    /// Changes a setting of one server for good, or back to the file's value with `None`.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`].
    pub async fn alter_system(
        &self,
        index: usize,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), LocalError> {
        let change = match value {
            Some(value) => format!("ALTER SYSTEM SET {name} = {}", literal(value)),
            None => format!("ALTER SYSTEM RESET {name}"),
        };
        // Apart, since ALTER SYSTEM takes no company in a transaction.
        self.execute(index, &change).await?;
        self.execute(index, "SELECT pg_reload_conf()").await
    }

    async fn execute(&self, index: usize, statement: &str) -> Result<(), LocalError> {
        let node = self.node(index)?;
        let client = node.connect(SUPERUSER, None, SUPERUSER).await?;
        client
            .batch_execute(statement)
            .await
            .map_err(node.refused())
    }

    /// Waits until a query of one boolean says yes.
    async fn wait_until_true(
        &self,
        index: usize,
        awaited: &'static str,
        question: &str,
    ) -> Result<(), LocalError> {
        let node = self.node(index)?;
        let client = node.connect(SUPERUSER, None, SUPERUSER).await?;
        let ask = async || {
            let row = client
                .query_one(question, &[])
                .await
                .map_err(node.refused())?;
            let answer: Option<bool> = row.try_get(0).map_err(node.refused())?;
            Ok(answer == Some(true))
        };
        node.wait_until(awaited, ask).await
    }
}
