"""`credentials.toml`: the classes of credentials that policy can name, and the brokers that make them. Part of `wire`.

Each backend has a module of its name here, whose `open_broker(table, context)` reads what is the backend's own and
returns the broker.
"""
