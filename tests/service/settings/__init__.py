"""Tests of ``service.settings``."""
