-- The statement that writes a new primary_conninfo, quoted by the server itself.
--
-- Run by:    the monitor, with the rewritten connection string as $1.
-- Needs:     nothing; running its result does, see follow.sql.
-- Versions:  PostgreSQL 14 to 18.
-- Columns:   statement
SELECT 'ALTER SYSTEM SET primary_conninfo = ' || quote_literal($1::text) AS statement
