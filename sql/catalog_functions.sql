-- Purpose:  every function of the database: what its owner promises, and how many arguments it takes.
-- Run by:   the monitor, once per database and whenever its catalog is read again.
-- Servers:  PostgreSQL 14 to 18.
-- An aggregate is always marked immutable: it is as volatile as what it calls.
-- Columns:  oid oid, schema text, name text, volatility text (i, s or v),
--           args_min int, args_max int (NULL when variadic), one_row boolean.
SELECT p.oid,
       n.nspname::text AS schema,
       p.proname::text AS name,
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_proc part
                          WHERE part.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn)
                            AND part.provolatile = 'v')
            THEN 'v' ELSE p.provolatile::text END AS volatility,
       (p.pronargs - p.pronargdefaults)::int AS args_min,
       CASE WHEN p.provariadic = 0 THEN p.pronargs::int END AS args_max,
       (p.pronargs = 1 AND t.typtype IN ('c', 'p')
        AND (t.typtype = 'c' OR t.oid = 'pg_catalog.record'::pg_catalog.regtype)) AS one_row
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
  LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
