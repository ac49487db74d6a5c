"""``python -m deploytool`` and the ``deploytool`` command."""

from __future__ import annotations

from deploytool.cli import main

__all__ = ("main",)

if __name__ == "__main__":
    main()
