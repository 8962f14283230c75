-- The most that a role can have which Forestall makes here, whatever credentials.toml says.
GRANT USAGE ON SCHEMA shop TO forestall_owner WITH GRANT OPTION;
GRANT SELECT, UPDATE (answer) ON shop.tickets TO forestall_owner WITH GRANT OPTION;
GRANT SELECT, UPDATE (address) ON shop.orders TO forestall_owner WITH GRANT OPTION;
