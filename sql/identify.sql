-- Whether a promotion has come to its end, and where the new timeline began.
--
-- Run by:    the monitor, on the server that is being promoted, every few milliseconds.
-- Needs:     nothing.
-- Versions:  PostgreSQL 14 to 18.
-- Columns:   in_recovery   true until the server takes writes
--            replayed      the last replayed position; it stays where the old timeline ended
SELECT pg_is_in_recovery() AS in_recovery, pg_last_wal_replay_lsn()::text AS replayed
