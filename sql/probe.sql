-- Everything that a probe wants to know of one server, in one statement.
--
-- Run by:    the monitor, on every server, at health.interval and on demand.
-- Needs:     membership in pg_monitor; without it the WAL receiver's row is there and empty.
-- Versions:  PostgreSQL 14 to 18.
-- Columns:   system_id        identifier of the cluster, text of an unsigned number
--            in_recovery      true on a replica
--            timeline         the one that is written, received, or last noted on disk
--            position         WAL position: flushed on a primary, replayed on a replica
--            furthest         WAL position: insert on a primary, received or replayed on a replica
--            segment_bytes    wal_segment_size, bytes
--            has_receiver     a WAL receiver runs
--            status           its state, such as streaming
--            received_tli     its timeline
--            sender_host      where it gets WAL from
--            sender_port
--            latest_end       last position that the sender told
--            message_age_ms   since the last message of the sender, by this server's clock
--            replay_paused
--            version_num      server_version_num
--            standbys         walsenders that stream
SELECT
    (SELECT system_identifier FROM pg_control_system())::text AS system_id,
    s.in_recovery,
    CASE WHEN s.in_recovery
        THEN coalesce(
            w.received_tli,
            greatest(
                (SELECT timeline_id FROM pg_control_checkpoint()),
                (SELECT min_recovery_end_timeline FROM pg_control_recovery())))
        -- The control file would tell the old timeline for seconds after a promotion.
        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
    END AS timeline,
    CASE WHEN s.in_recovery
        THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
        ELSE pg_current_wal_flush_lsn()
    END::text AS position,
    CASE WHEN s.in_recovery
        -- The received position starts at a segment boundary and may be below the replayed one.
        THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), '0/0')
        ELSE pg_current_wal_insert_lsn()
    END::text AS furthest,
    pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,
    w.pid IS NOT NULL AS has_receiver,
    w.status,
    w.received_tli,
    w.sender_host,
    w.sender_port,
    w.latest_end_lsn::text AS latest_end,
    extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time)::float8 * 1000
        AS message_age_ms,
    CASE WHEN s.in_recovery THEN pg_is_wal_replay_paused() ELSE false END AS replay_paused,
    current_setting('server_version_num')::int AS version_num,
    (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming')::int AS standbys
FROM (SELECT pg_is_in_recovery() AS in_recovery) AS s
LEFT JOIN pg_stat_wal_receiver AS w ON true
