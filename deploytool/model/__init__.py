"""Frozen values that the rest of the deploy tool passes around."""
