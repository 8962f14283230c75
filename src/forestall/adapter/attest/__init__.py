"""Who runs at the other end of a local socket, as the kernel tells it. Linux alone; read `unix.py` first."""
