"""Tokens of OpenID Connect issuers, checked against keys that are fetched from them. Read `verifier.py` first."""
