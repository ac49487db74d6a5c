"""A rollout, phase by phase; knows neither Kubernetes nor HTTP."""
