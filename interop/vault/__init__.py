"""Credentials of HashiCorp Vault, and with another program of OpenBao, which is what it was before 2024."""
