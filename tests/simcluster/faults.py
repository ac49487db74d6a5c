"""Faults that a test asks for: refusals, silence, cut connections, before or after the work is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simcluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simcluster.requests import Request

__all__ = ("Cut", "Fault", "Faults", "Hang")

_REASONS = {
    403: "Forbidden",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Cut(Exception):  # noqa: N818 - not an error of the program
    """The connection is to be closed without an answer."""


class Hang(Exception):  # noqa: N818 - not an error of the program
    """No answer is to be given until the client goes."""


@dataclass(slots=True)
class Fault:
    """One rule.

    Attributes:
        method: Of HTTP; empty for any.
        path: Regular expression that is searched for in the path.
        code: Answered; 0 with `is_cut` or `is_hanging`.
        retry_after_seconds: Sent as ``Retry-After``; None for no header.
        is_after: The request is carried out first, and its answer lost.
        skip_count: Requests that are let through before.
        times: Requests that are hit; None for all.
        concerns: Says of a request whether it is looked at, in the cluster's thread.
        action: Done when it strikes, in the cluster's thread, such as to end the client.
    """

    method: str = ""
    path: str = ""
    code: int = 0
    retry_after_seconds: int | None = None
    is_cut: bool = False
    is_hanging: bool = False
    is_after: bool = False
    skip_count: int = 0
    times: int | None = 1
    concerns: Callable[[Request], bool] = lambda _request: True
    action: Callable[[], None] = lambda: None

    def hits(self, request: Request) -> bool:
        """Tell whether this request is hit, and count it."""
        if self.method not in ("", request.method) or not re.search(self.path, request.path):
            return False
        if not self.concerns(request):
            return False
        if self.skip_count > 0:
            self.skip_count -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0

    def strike(self) -> None:
        """Do it.

        Raises:
            Cut: The connection is to be closed.
            Hang: The client is to wait.
            ApiError: The answer.
        """
        self.action()
        if self.is_cut:
            raise Cut
        if self.is_hanging:
            raise Hang
        headers = {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}
        details = {} if self.retry_after_seconds is None else {"retryAfterSeconds": self.retry_after_seconds}
        reason = _REASONS.get(self.code, "InternalError")
        raise ApiError(self.code, reason, "a fault that the test asked for", details=details, headers=headers)


class Faults:
    """The rules of a cluster, in the order of their making."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Callable[[], None]:
        """Put a rule in force; returns what takes it out of force."""
        self._faults.append(fault)
        return lambda: self._faults.remove(fault) if fault in self._faults else None

    def clear(self) -> None:
        """Take all out of force."""
        self._faults.clear()

    def hit(self, request: Request) -> Fault | None:
        """Return the rule that hits a request, or None."""
        return next((fault for fault in self._faults if fault.hits(request)), None)
