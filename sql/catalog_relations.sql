-- Purpose:  everything that a query can read from, and whether replicas have it.
-- Run by:   the monitor, with catalog_functions.sql.
-- Servers:  PostgreSQL 14 to 18.
-- Columns:  oid oid, schema text, name text, persistence text (p, u or t), foreign_rows boolean.
SELECT c.oid,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relpersistence::text AS persistence,
       (c.relkind = 'f') AS foreign_rows
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S')
   AND n.nspname !~ '^pg_toast'
