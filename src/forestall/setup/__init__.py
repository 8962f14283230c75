"""Getting between a client and its servers: the client's configuration, the servers' tools, a first policy."""
