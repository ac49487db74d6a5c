"""Tests; below service the files mirror the modules."""
