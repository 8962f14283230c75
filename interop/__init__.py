"""Forestall against servers that others wrote, built or installed at pinned versions. Run by `make interop`."""
