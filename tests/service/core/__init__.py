"""Tests of ``service.core``."""
