-- The role and the grants of the router. Purpose: printed by `pgherd setup-sql`, never run by the
-- program. Who runs it: a superuser, once, on the primary, in the database of monitor.database
-- (grants on functions are per database; all of it replicates). Server versions: 14 and later.
-- Blocks are separated by an empty line. The first line of a block says when it is printed:
-- always, failover, lookup, and `15+` or `before-15` for versions. "pgherd_role" is replaced.

--@ always
-- Run this as a superuser on the primary, in the database of monitor.database.
-- It replicates to the replicas.
CREATE ROLE "pgherd_role" LOGIN;
-- Give it a password without writing one down here, in psql:
--   \password "pgherd_role"

--@ always
-- Watching: WAL positions, receivers and senders of all sessions.
GRANT pg_monitor TO "pgherd_role";

--@ failover
-- Promoting, and telling a replica to read its changed settings.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote(boolean, integer), pg_catalog.pg_reload_conf()
  TO "pgherd_role";

--@ failover 15+
-- Telling the other replicas where the new primary is. ALTER SYSTEM writes primary_conninfo to
-- postgresql.auto.conf, where it outlives this router and where whoever may read settings reads
-- it: keep the replication password in a passfile on the hosts, not in the string.
GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO "pgherd_role";

--@ failover before-15
-- Before PostgreSQL 15 only a superuser may change primary_conninfo: this role can promote, but
-- neither cut a replica off from the old primary nor tell it of the new one.

--@ lookup
-- The SCRAM verifier of one role that may log in and is no superuser. Only the router may ask.
CREATE SCHEMA pgherd;
GRANT USAGE ON SCHEMA pgherd TO "pgherd_role";
CREATE FUNCTION pgherd.lookup(name text) RETURNS TABLE (rolname name, verifier text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.rolname, r.rolpassword FROM pg_catalog.pg_authid r
    WHERE r.rolname = $1 AND r.rolcanlogin AND NOT r.rolsuper
      AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > now())
  $$;
REVOKE ALL ON FUNCTION pgherd.lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgherd.lookup(text) TO "pgherd_role";
