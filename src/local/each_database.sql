-- What the router's role needs in one database. Run by the superuser, once per database.
GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_reload_conf(), pg_wal_replay_resume()
    TO pgherd;
CREATE SCHEMA pgherd;
GRANT USAGE ON SCHEMA pgherd TO pgherd;
CREATE FUNCTION pgherd.lookup(u text) RETURNS TABLE(rolname name, verifier text)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
$$ SELECT rolname, rolpassword FROM pg_authid WHERE rolname = u AND rolcanlogin AND NOT rolsuper
     AND (rolvaliduntil IS NULL OR rolvaliduntil > now()) $$;
REVOKE ALL ON FUNCTION pgherd.lookup(text) FROM public;
GRANT EXECUTE ON FUNCTION pgherd.lookup(text) TO pgherd;
