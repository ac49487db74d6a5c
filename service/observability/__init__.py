"""Metrics, logs and scaling indicators."""
