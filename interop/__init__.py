"""Forestall with servers that others wrote, at pinned versions, and with the likes of those that cannot be had."""
