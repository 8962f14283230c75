"""SPIRE's own server and agent, and Forestall's client of the Workload API inside real, attested workloads."""
