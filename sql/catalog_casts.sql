-- Purpose:  casts whose function is volatile.
-- Run by:   the monitor, with catalog_functions.sql.
-- Servers:  PostgreSQL 14 to 18.
-- Columns:  target text (the type's name), function oid, implicit boolean.
SELECT t.typname::text AS target,
       p.oid AS function,
       (c.castcontext = 'i') AS implicit
  FROM pg_catalog.pg_cast c
  JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
  JOIN pg_catalog.pg_type t ON t.oid = c.casttarget
 WHERE p.provolatile = 'v'
