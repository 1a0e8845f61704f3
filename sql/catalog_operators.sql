-- Purpose:  operators whose function is volatile: they call it without looking like a call.
-- Run by:   the monitor, with catalog_functions.sql.
-- Servers:  PostgreSQL 14 to 18.
-- Columns:  name text, function oid.
SELECT DISTINCT o.oprname::text AS name,
       p.oid AS function
  FROM pg_catalog.pg_operator o
  JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
 WHERE p.provolatile = 'v'
