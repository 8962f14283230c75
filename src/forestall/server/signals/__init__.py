"""Security events that others push to us (RFC 8935), and what becomes of them."""
