"""What the tests of the MCP gateway share: a scripted decision point, servers good and bad, and a client of bytes."""
