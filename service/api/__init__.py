"""The HTTP edge: one file a resource, each exporting its ``router``."""
