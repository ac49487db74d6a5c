"""Tests of ``service.realtime``."""
