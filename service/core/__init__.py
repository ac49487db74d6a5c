"""The protocol as values: no clock, no randomness, no tasks, no sockets."""
