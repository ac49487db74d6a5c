"""The pre-production checks: pure functions over a snapshot, one file a topic."""
