"""An issuer as GitHub Actions shows itself, and jobs that are agents."""
