-- Whether a replica is cut off, and what it has.
--
-- Run by:    the monitor, every few milliseconds after it changed primary_conninfo.
-- Needs:     nothing.
-- Versions:  PostgreSQL 14 to 18.
-- Columns:   has_receiver   a WAL receiver still runs
--            in_recovery    false when somebody promoted it in the meantime
--            furthest       WAL position: the greatest of received and replayed
SELECT
    EXISTS (SELECT FROM pg_stat_wal_receiver) AS has_receiver,
    pg_is_in_recovery() AS in_recovery,
    greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), '0/0')::text AS furthest
