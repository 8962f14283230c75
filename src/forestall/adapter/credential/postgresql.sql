-- What Forestall needs in a PostgreSQL database (15 or newer) to make a role for each lease. Run it there once, as a
-- superuser; run it again after an update, or for another Forestall that shares the database: it changes what is there.
--
-- Who may do what afterwards:
--   forestall_owner   owns the schema `forestall` and the functions in it. It has CREATEROLE and cannot log in; nobody is
--                     a member of it. What an administrator grants it WITH GRANT OPTION is the most that a lease can have.
--   @LOGIN@           Forestall's own login. No superuser, no CREATEROLE, no rights on any data: it may call six
--                     functions, which let it touch roles named forestall-@OWNER@-... and no others.
--   a lease's role    what `forestall.issue` granted it, and what PUBLIC has. It is a member of nothing.
\set ON_ERROR_STOP on
BEGIN;

DO $$
BEGIN
  IF current_setting('server_version_num')::int < 150000 THEN
    RAISE EXCEPTION 'PostgreSQL 15 or newer is needed: before, a role may make others its members by itself';
  END IF;
  IF current_database() <> @DATABASE_TEXT@ THEN
    RAISE EXCEPTION 'this is for the database %, and you are connected to %', @DATABASE_TEXT@, current_database();
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'forestall_owner') THEN
    CREATE ROLE forestall_owner NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = @LOGIN_TEXT@) THEN
    CREATE ROLE @LOGIN@ LOGIN NOINHERIT;  -- give it a password, or a line in pg_hba.conf
  END IF;
END
$$;
ALTER ROLE forestall_owner NOLOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS INHERIT;
ALTER ROLE @LOGIN@ NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;

-- What everybody may do by default, and nobody from now on unless you grant it: sessions and temporary tables in this
-- database, objects in the schema public, large objects (which would outlive the role that made them).
REVOKE CONNECT, TEMPORARY ON DATABASE @DATABASE@ FROM PUBLIC;
GRANT CONNECT ON DATABASE @DATABASE@ TO @LOGIN@;
GRANT CONNECT ON DATABASE @DATABASE@ TO forestall_owner WITH GRANT OPTION;
DO $$
DECLARE
  one record;
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public') THEN
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
  END IF;
  FOR one IN
    SELECT oid::regprocedure AS called FROM pg_catalog.pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace
      AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_put', 'lo_get', 'lo_unlink', 'lowrite')
  LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one.called);
  END LOOP;
END
$$;
-- Only who may set this can: unlike a timeout, the holder of a lease cannot raise it.
GRANT SET ON PARAMETER temp_file_limit TO forestall_owner;

CREATE SCHEMA IF NOT EXISTS forestall AUTHORIZATION forestall_owner;
REVOKE ALL ON SCHEMA forestall FROM PUBLIC;
GRANT USAGE ON SCHEMA forestall TO PUBLIC;  -- for forestall.parameter, which row policies call

SET LOCAL ROLE forestall_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE forestall_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- Which Forestall logs in as whom, and the longest that its leases live.
CREATE TABLE IF NOT EXISTS forestall.broker (
  login name PRIMARY KEY,
  owner text NOT NULL UNIQUE CHECK (owner ~ '^[0-9a-f]{8}$'),
  longest interval NOT NULL
);
-- The leases that are alive, and the values that row policies go by.
CREATE TABLE IF NOT EXISTS forestall.lease (
  name text PRIMARY KEY,
  broker name NOT NULL,
  expires_at timestamptz NOT NULL,
  parameters jsonb NOT NULL
);
-- Findings of forestall.audit that an administrator has looked at and lives with, word for word.
CREATE TABLE IF NOT EXISTS forestall.accepted (finding text PRIMARY KEY);
-- One at a time changes the rights on a table: PostgreSQL does not take two such changes at once. Not an advisory lock,
-- which any role could hold.
CREATE TABLE IF NOT EXISTS forestall.turn ();
REVOKE ALL ON forestall.broker, forestall.lease, forestall.accepted, forestall.turn FROM PUBLIC;
INSERT INTO forestall.broker (login, owner, longest) VALUES (@LOGIN_TEXT@, '@OWNER@', '@LONGEST_S@ seconds')
  ON CONFLICT (login) DO UPDATE SET owner = EXCLUDED.owner, longest = EXCLUDED.longest;

-- The value of a parameter of the lease whose session this is; NULL for every other session, and once the lease ran out.
-- By session_user: it is the role that logged in, which no role but a superuser changes. current_user would be whoever
-- owns the function that is running.
CREATE OR REPLACE FUNCTION forestall.parameter(parameter text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT parameters ->> $1 FROM forestall.lease WHERE name = session_user AND expires_at > clock_timestamp()
$$;

-- The caller's own lease of that name, or an error: no function below touches any other role.
CREATE OR REPLACE FUNCTION forestall.require_own(lease_role text) RETURNS forestall.broker
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caller forestall.broker;
BEGIN
  SELECT * INTO caller FROM forestall.broker WHERE login = session_user;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this login is no Forestall; the setup script makes it one' USING ERRCODE = 'FS001';
  END IF;
  IF lease_role IS NULL OR lease_role !~ ('^forestall-' || caller.owner || '-[0-9a-z-]{1,40}$') THEN
    RAISE EXCEPTION 'this is no name of a lease of this Forestall' USING ERRCODE = 'FS002';
  END IF;
  RETURN caller;
END
$$;

-- Grants the lease these operations on one table, and nothing that forestall_owner was not given to grant.
CREATE OR REPLACE FUNCTION forestall.allow(lease_role text, wanted jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named text := format('%I.%I', wanted ->> 'schema', wanted ->> 'table');
  relation oid := to_regclass(named);
  privileges text[] := '{}';
  one record;
  listed text;
BEGIN
  IF relation IS NULL OR NOT EXISTS (
    SELECT FROM pg_class WHERE oid = relation AND relkind IN ('r', 'p', 'v', 'm')
      AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'forestall'::regnamespace)
  ) THEN
    RAISE EXCEPTION 'there is no table % that could be granted', named USING ERRCODE = 'FS003';
  END IF;
  FOR one IN SELECT key, value FROM jsonb_each(wanted -> 'operations') LOOP
    IF one.key NOT IN ('select', 'insert', 'update', 'delete') THEN
      RAISE EXCEPTION 'a lease is not granted % on a table', one.key USING ERRCODE = 'FS003';
    END IF;
    IF one.value = 'true' THEN
      privileges := privileges || one.key;
    ELSE
      SELECT string_agg(format('%I', value), ', ' ORDER BY value) INTO listed FROM jsonb_array_elements_text(one.value);
      IF listed IS NULL OR one.key = 'delete' THEN
        RAISE EXCEPTION 'which columns of % are to be granted is not said', named USING ERRCODE = 'FS003';
      END IF;
      privileges := privileges || format('%s (%s)', one.key, listed);
    END IF;
  END LOOP;
  IF privileges = '{}' THEN
    RAISE EXCEPTION 'nothing on % is to be granted', named USING ERRCODE = 'FS003';
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', wanted ->> 'schema', lease_role);
  EXECUTE format('GRANT %s ON TABLE %s TO %I', array_to_string(privileges, ', '), named, lease_role);
  -- PostgreSQL only warns where it grants less than it was asked for.
  IF NOT has_schema_privilege(lease_role, wanted ->> 'schema', 'USAGE') OR EXISTS (
    SELECT FROM jsonb_each(wanted -> 'operations') AS o(operation, columns)
    WHERE CASE WHEN columns = 'true' THEN NOT has_table_privilege(lease_role, relation, operation)
          ELSE EXISTS (SELECT FROM jsonb_array_elements_text(columns) AS c(called)
                       WHERE NOT has_column_privilege(lease_role, relation, called, operation)) END
  ) THEN
    RAISE EXCEPTION 'forestall_owner may not grant all of that on %', named USING ERRCODE = 'FS004';
  END IF;
  IF wanted -> 'operations' ? 'insert' THEN
    FOR one IN  -- of serial columns; an identity column needs no rights on its sequence
      SELECT d.objid::regclass AS sequence FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
      WHERE d.refobjid = relation AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.deptype = 'a'
    LOOP
      EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', one.sequence, lease_role);
      IF NOT has_sequence_privilege(lease_role, one.sequence, 'USAGE') THEN
        RAISE EXCEPTION 'forestall_owner may not grant the sequence %', one.sequence USING ERRCODE = 'FS004';
      END IF;
    END LOOP;
  END IF;
  FOR one IN SELECT key, value FROM jsonb_each_text(wanted -> 'rows') LOOP
    IF NOT EXISTS (
      SELECT FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
      WHERE p.polrelid = relation AND c.relrowsecurity AND NOT p.polpermissive AND p.polcmd = '*'
        AND p.polroles = '{0}' AND p.polname = format('forestall %s = %s', one.key, one.value)
    ) THEN
      RAISE EXCEPTION 'no row policy keeps a lease of % to its %; `forestall credentials postgresql-policy` prints it',
        named, one.key USING ERRCODE = 'FS005';
    END IF;
  END LOOP;
END
$$;

-- Makes the role. `verifier` is what SCRAM stores: the password itself never comes here. Answers when it ends.
CREATE OR REPLACE FUNCTION forestall.issue(lease_role text, verifier text, lives interval, rights jsonb) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caller forestall.broker := forestall.require_own(lease_role);
  until timestamptz := transaction_timestamp() + lives;
  wanted jsonb;
BEGIN
  IF verifier !~ '^SCRAM-SHA-256\$[0-9]{1,7}:[A-Za-z0-9+/=]{16,64}\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$' THEN
    RAISE EXCEPTION 'this is no SCRAM verifier' USING ERRCODE = 'FS003';
  END IF;
  IF lives <= interval '0' OR lives > caller.longest OR lives IS NULL THEN
    RAISE EXCEPTION 'a lease lives % at the longest here', caller.longest USING ERRCODE = 'FS006';
  END IF;
  -- A server that crashes may forget the role, and then nobody has it. Its end is on disk before it is acknowledged.
  PERFORM set_config('synchronous_commit', 'off', true);
  LOCK TABLE forestall.turn IN EXCLUSIVE MODE;
  EXECUTE format(
    'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS'
    ' CONNECTION LIMIT %s PASSWORD %L VALID UNTIL %L',
    lease_role, (rights ->> 'connections')::int, verifier, until
  );
  EXECUTE format('ALTER ROLE %I SET temp_file_limit = %L', lease_role, rights ->> 'temporary_mb' || 'MB');
  EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', lease_role, rights ->> 'statement_ms');
  EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', lease_role, rights ->> 'idle_ms');
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), lease_role);
  FOR wanted IN SELECT jsonb_array_elements(rights -> 'tables') LOOP
    PERFORM forestall.allow(lease_role, wanted);
  END LOOP;
  INSERT INTO forestall.lease VALUES (lease_role, session_user, until, rights -> 'parameters');
  RETURN until;
END
$$;

CREATE OR REPLACE FUNCTION forestall.renew(lease_role text, lives interval) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caller forestall.broker := forestall.require_own(lease_role);
  until timestamptz := transaction_timestamp() + lives;
BEGIN
  IF lives <= interval '0' OR lives > caller.longest OR lives IS NULL THEN
    RAISE EXCEPTION 'a lease lives % at the longest here', caller.longest USING ERRCODE = 'FS006';
  END IF;
  UPDATE forestall.lease SET expires_at = until WHERE name = lease_role AND expires_at > transaction_timestamp()
    AND EXISTS (SELECT FROM pg_roles WHERE rolname = lease_role AND rolcanlogin);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such lease any more' USING ERRCODE = 'FS007';
  END IF;
  EXECUTE format('ALTER ROLE %I VALID UNTIL %L', lease_role, until);
  RETURN until;
END
$$;

-- Takes away what was granted to the role, and drops what it owns: default privileges, at the most, since it can make
-- nothing. DROP OWNED alone would not do: it revokes all privileges of a table, which takes more than some of them.
CREATE OR REPLACE FUNCTION forestall.strip(role oid, lease_role text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
BEGIN
  FOR one IN
    WITH had AS (
      SELECT d.objid, c.relkind, lower(a.privilege_type) AS privilege, NULL::name AS attname
        FROM pg_shdepend d JOIN pg_class c ON c.oid = d.objid, aclexplode(c.relacl) a
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = role AND d.classid = 'pg_class'::regclass
          AND d.deptype = 'a' AND d.objsubid = 0 AND a.grantee = role
      UNION ALL
      SELECT d.objid, 'r', lower(a.privilege_type), t.attname
        FROM pg_shdepend d JOIN pg_attribute t ON t.attrelid = d.objid AND t.attnum = d.objsubid, aclexplode(t.attacl) a
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = role AND d.classid = 'pg_class'::regclass
          AND d.deptype = 'a' AND d.objsubid > 0 AND a.grantee = role
    )
    SELECT objid::regclass AS relation, bool_or(relkind = 'S') AS is_sequence,
      string_agg(privilege || CASE WHEN attname IS NULL THEN '' ELSE format(' (%I)', attname) END, ', ') AS privileges
    FROM had GROUP BY objid
  LOOP
    EXECUTE format('REVOKE %s ON %s %s FROM %I', one.privileges,
      CASE WHEN one.is_sequence THEN 'SEQUENCE' ELSE 'TABLE' END, one.relation, lease_role);
  END LOOP;
  EXECUTE format('DROP OWNED BY %I', lease_role);
END
$$;

-- What the lease has prepared (PREPARE TRANSACTION), which holds its locks until it is rolled back. Only its own role can
-- do that, so the caller is made a member for as long as there is such a thing.
CREATE OR REPLACE FUNCTION forestall.prepared_of(lease_role text) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  gids text[];
BEGIN
  SELECT coalesce(array_agg(gid), '{}') INTO gids FROM pg_prepared_xact() WHERE ownerid = lease_role::regrole;
  IF gids <> '{}' THEN
    EXECUTE format('GRANT %I TO %I', lease_role, session_user);
  END IF;
  RETURN gids;
END
$$;

-- No new sessions, and no rights for those there are. To be committed before `finish` is called: what has not seen it by
-- then is seen by `finish`. Answers whether it is done, and what has to be rolled back first where it is not.
CREATE OR REPLACE FUNCTION forestall.lock(lease_role text, OUT locked boolean, OUT prepared text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role oid;
BEGIN
  PERFORM forestall.require_own(lease_role);
  LOCK TABLE forestall.turn IN EXCLUSIVE MODE;
  locked := false;
  prepared := '{}';
  SELECT oid INTO role FROM pg_roles WHERE rolname = lease_role;
  IF NOT FOUND THEN
    DELETE FROM forestall.lease WHERE name = lease_role;
    locked := true;
    RETURN;
  END IF;
  EXECUTE format('GRANT %I TO forestall_owner', lease_role);  -- whoever ends its sessions, and what it owns, is a member
  DELETE FROM forestall.lease WHERE name = lease_role;
  -- A session of the holder may have the role's own row (ALTER ROLE ... PASSWORD, not committed), and so may the next.
  PERFORM set_config('lock_timeout', '20ms', true);
  FOR attempt IN 1 .. 40 LOOP
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = role;
    BEGIN
      EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL CONNECTION LIMIT 0', lease_role);
      locked := true;
      EXIT;
    EXCEPTION WHEN lock_not_available OR internal_error THEN
      prepared := forestall.prepared_of(lease_role);
      EXIT WHEN prepared <> '{}';
    END;
  END LOOP;
  BEGIN
    PERFORM forestall.strip(role, lease_role);
  EXCEPTION WHEN OTHERS THEN
    NULL;  -- nobody can begin a session, which is what has to be committed now; `finish` says what is wrong
  END;
END
$$;

-- Ends the sessions, waits until there are none, and drops the role. Answers what has to be rolled back first; with
-- nothing to roll back, the role is gone.
CREATE OR REPLACE FUNCTION forestall.finish(lease_role text, patience interval) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role oid;
  give_up timestamptz := clock_timestamp() + patience;
  starting int[];
  one int;
  prepared text[];
BEGIN
  PERFORM forestall.require_own(lease_role);
  -- Also where the server is told not to wait for its disk: what `lock` has done is there before this is.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'local', true);
  END IF;
  SELECT oid INTO role FROM pg_roles WHERE rolname = lease_role AND NOT rolcanlogin;
  IF NOT FOUND THEN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = lease_role) THEN
      RAISE EXCEPTION 'the role has to be locked first' USING ERRCODE = 'FS008';
    END IF;
    RETURN '{}';
  END IF;
  -- A session that is just beginning has a lock on its database from before its right to connect is looked up until it
  -- is listed. So whoever was let in before `lock` was committed is among these, or is listed already.
  SELECT coalesce(array_agg(pid), '{}') INTO starting FROM pg_locks
    WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock';
  FOREACH one IN ARRAY starting LOOP  -- its holder can make a beginning last (post_auth_delay)
    BEGIN
      PERFORM pg_terminate_backend(one);
    EXCEPTION WHEN insufficient_privilege THEN
      starting := array_remove(starting, one);  -- somebody else's
    END;
  END LOOP;
  LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT coalesce(array_agg(l.pid), '{}') INTO starting FROM pg_locks l
      WHERE l.pid = ANY (starting) AND l.locktype = 'object' AND l.classid = 'pg_database'::regclass
        AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid);
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = role;
    EXIT WHEN starting = '{}' AND NOT FOUND;
    IF clock_timestamp() > give_up THEN
      RAISE EXCEPTION 'a session of the lease does not end' USING ERRCODE = 'FS009';
    END IF;
    PERFORM pg_sleep(0.001);
  END LOOP;
  prepared := forestall.prepared_of(lease_role);
  IF prepared <> '{}' THEN
    RETURN prepared;
  END IF;
  LOCK TABLE forestall.turn IN EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = role) THEN
    PERFORM forestall.strip(role, lease_role);
  END IF;
  EXECUTE format('DROP ROLE %I', lease_role);
  RETURN '{}';
END
$$;

-- The caller's leases that are alive, as the server itself knows its roles.
CREATE OR REPLACE FUNCTION forestall.list() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caller forestall.broker;
BEGIN
  SELECT * INTO caller FROM forestall.broker WHERE login = session_user;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this login is no Forestall; the setup script makes it one' USING ERRCODE = 'FS001';
  END IF;
  RETURN QUERY SELECT rolname::text FROM pg_roles
    WHERE rolname ~ ('^forestall-' || caller.owner || '-[0-9a-z-]{1,40}$') ORDER BY rolname;
END
$$;

-- What every role may do here that a lease should not: each finding says what to run. No role is made while there is one
-- that is not in forestall.accepted.
CREATE OR REPLACE FUNCTION forestall.audit() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH own AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'forestall') AND nspname !~ '^pg_(toast|temp)'
  ),
  found(finding) AS (
    SELECT format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', datname) FROM pg_database
      WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT')
    UNION ALL
    SELECT format('REVOKE %s ON DATABASE %I FROM PUBLIC', p, current_database()) FROM unnest('{TEMPORARY,CREATE}'::text[]) p
      WHERE has_database_privilege('public', current_database(), p)
    UNION ALL
    SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', nspname) FROM own
      WHERE has_schema_privilege('public', oid, 'CREATE')
    UNION ALL
    SELECT format('REVOKE ALL ON %I.%I FROM PUBLIC', nspname, relname)
      FROM pg_class c JOIN own ON own.oid = c.relnamespace, aclexplode(relacl) a WHERE a.grantee = 0
    UNION
    SELECT format('REVOKE ALL (%I) ON %I.%I FROM PUBLIC', attname, nspname, relname)
      FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN own ON own.oid = c.relnamespace,
        aclexplode(attacl) a WHERE a.grantee = 0
    UNION ALL
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
      FROM pg_proc p JOIN own ON own.oid = p.pronamespace
      WHERE (p.prosecdef OR p.probin ~ 'dblink|file_fdw|adminpack') AND has_function_privilege('public', p.oid, 'EXECUTE')
    UNION ALL
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure) FROM pg_proc p
      WHERE pronamespace = 'pg_catalog'::regnamespace
        AND (proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_put', 'lo_get', 'lo_unlink', 'lowrite',
              'lo_import', 'lo_export') OR (proname ~ '^pg_(read|ls|stat)_(binary_)?(file|dir)'
              AND proname <> 'pg_read_file_old'))  -- which asks for a superuser by itself
        AND has_function_privilege('public', p.oid, 'EXECUTE')
    UNION ALL
    SELECT format('REVOKE USAGE ON FOREIGN SERVER %I FROM PUBLIC', srvname) FROM pg_foreign_server
      WHERE has_server_privilege('public', oid, 'USAGE')
    UNION ALL
    SELECT format('REVOKE USAGE ON FOREIGN DATA WRAPPER %I FROM PUBLIC', fdwname) FROM pg_foreign_data_wrapper
      WHERE has_foreign_data_wrapper_privilege('public', oid, 'USAGE')
  )
  SELECT finding FROM found WHERE finding NOT IN (SELECT finding FROM forestall.accepted)
$$;

RESET ROLE;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA forestall FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forestall.parameter(text) TO PUBLIC;
GRANT USAGE ON SCHEMA forestall TO @LOGIN@;
GRANT EXECUTE ON FUNCTION forestall.issue(text, text, interval, jsonb), forestall.renew(text, interval),
  forestall.lock(text), forestall.finish(text, interval), forestall.list(), forestall.audit() TO @LOGIN@;
COMMIT;
