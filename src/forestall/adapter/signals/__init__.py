"""What was heard of security events, and by whose keys they are checked."""
