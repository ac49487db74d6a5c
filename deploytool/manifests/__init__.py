"""Reads what is about to be deployed into a snapshot: manifests, charts, values, compose files, nginx configurations.

Refuses to judge: what stands in a file is passed on with its place.
"""

from __future__ import annotations

from deploytool.manifests.reading import STDIN, Reading, parse, read

__all__ = ("STDIN", "Reading", "parse", "read")
