"""Tests of ``service.ws``."""
