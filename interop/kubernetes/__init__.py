"""A cluster as its API server shows itself, and pods that are agents."""
