-- The role that the router looks at the servers with, and promotes with.
--
-- Run by:    an administrator, once, on the primary: grants replicate, and cannot be given on a
--            replica. Set a password with \password pgherd_monitor.
-- Needs:     superuser.
-- Versions:  PostgreSQL 15 to 18; on 14 leave out GRANT ... ON PARAMETER: there only a superuser
--            can cut replicas off and repoint them.
CREATE ROLE pgherd_monitor LOGIN;
GRANT pg_monitor TO pgherd_monitor;
GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_reload_conf() TO pgherd_monitor;
GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO pgherd_monitor;
