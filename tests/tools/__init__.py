"""Developers' tools that are run by hand or by a make target."""
