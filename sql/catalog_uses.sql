-- Purpose:  which functions and relations a relation uses when it is read: by its view query, its
--           policies, its partitions and its child tables.
-- Run by:   the monitor, with catalog_functions.sql.
-- Servers:  PostgreSQL 14 to 18.
-- Columns:  relation oid, function oid (or NULL), uses oid (or NULL): one of the two is set.
-- pg_depend does not record what is built in, so the stored trees are searched for OIDs. A
-- materialized view is read from its own heap: its query runs at REFRESH only.
WITH tree AS (
    SELECT r.ev_class AS relation, r.ev_action::text AS node
      FROM pg_catalog.pg_rewrite r
      JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
     WHERE r.ev_type = '1' AND c.relkind <> 'm'
    UNION ALL
    SELECT p.polrelid, p.polqual::text
      FROM pg_catalog.pg_policy p
     WHERE p.polqual IS NOT NULL
)
SELECT DISTINCT tree.relation,
       m[1]::pg_catalog.oid AS function,
       NULL::pg_catalog.oid AS uses
  FROM tree,
       pg_catalog.regexp_matches(tree.node, ':(?:funcid|opfuncid|winfnoid|aggfnoid) (\d+)', 'g') AS m
 WHERE m[1] <> '0'
UNION ALL
SELECT DISTINCT tree.relation,
       NULL::pg_catalog.oid,
       m[1]::pg_catalog.oid
  FROM tree, pg_catalog.regexp_matches(tree.node, ':relid (\d+)', 'g') AS m
 WHERE m[1] <> '0' AND m[1]::pg_catalog.oid <> tree.relation
UNION ALL
SELECT i.inhparent, NULL::pg_catalog.oid, i.inhrelid
  FROM pg_catalog.pg_inherits i
