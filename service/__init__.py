"""Real-time channels for an application that runs as one replica."""

__all__ = ("__version__",)

__version__ = "0.1.0"
