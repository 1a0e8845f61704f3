-- Makes a connection forget everything of the session that had it.
--
-- Run by:    the pool, before a connection that a session was pinned to is lent to another.
-- Needs:     nothing.
-- Versions:  PostgreSQL 14 to 18.
-- Columns:   none.
DISCARD ALL
