-- Begins a promotion and does not wait: pg_promote(true) looks only every 100 ms.
--
-- Run by:    the monitor, on the chosen replica, after the decision is on disk.
-- Needs:     EXECUTE on pg_promote(boolean, integer).
-- Versions:  PostgreSQL 14 to 18.
-- Columns:   promoted   true: the signal was sent
SELECT pg_promote(false, 60) AS promoted
