"""Workload identity from outside: the Workload API's streams, and trust bundles from files and bundle endpoints."""
