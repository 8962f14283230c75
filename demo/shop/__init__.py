"""The second half of the demo: an agent at a real PostgreSQL, and the credential that it has there."""
