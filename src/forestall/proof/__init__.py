"""Who is asking, proved: bytes in, a verified value or `InvalidProof` out. Pure; the time is an argument."""
