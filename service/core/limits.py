"""Counting what somebody does in a stretch of time. Pure: time comes in."""

from __future__ import annotations

__all__ = ("RateLimit",)


class RateLimit:
    """At most ``limit`` events of one key in a window that begins with its first event.

    The owner calls `expire` now and then; a key whose window has passed costs nothing after that.

    Args:
        limit: Events allowed in a window; 0 for no limit.
        window_seconds: Length of the window.
    """

    __slots__ = ("_limit", "_windows", "window_seconds")

    def __init__(self, limit: int, *, window_seconds: float = 60.0) -> None:
        self._limit = limit
        self.window_seconds = window_seconds
        # key -> [start of its window, events in it]
        self._windows: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def allow(self, key: str, now: float) -> bool:
        """Count one event; False when it is one too many."""
        return not self._limit or self.count(key, now) <= self._limit

    def count(self, key: str, now: float) -> int:
        """Count one event and return how many there were in its window, whatever the limit."""
        window = self._windows.get(key)
        if window is None or now - window[0] >= self.window_seconds:
            window = self._windows[key] = [now, 0]
        window[1] += 1
        return int(window[1])

    def forget(self, key: str) -> None:
        """Drop the count of a key that cannot come back."""
        self._windows.pop(key, None)

    def expire(self, now: float) -> None:
        """Drop every window that has passed."""
        for key in [key for key, window in self._windows.items() if now - window[0] >= self.window_seconds]:
            del self._windows[key]
