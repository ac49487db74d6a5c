"""Offline tests of the benchmark's arithmetic and of its table; nothing here measures anything."""
