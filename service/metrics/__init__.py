"""Prometheus metrics of the application and of the rollout."""
