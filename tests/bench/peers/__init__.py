"""Peers that the benchmark compares with, as their own documentation shows them."""
