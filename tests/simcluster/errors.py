"""What the API server answers when it refuses: a ``Status`` with a code and a reason."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

__all__ = ("ApiError", "conflict", "gone", "invalid", "not_found", "unsupported")


class ApiError(Exception):
    """A refusal.

    Attributes:
        code: HTTP status.
        reason: Of the table of reasons of the API, such as ``NotFound``.
        details: Field ``details`` of the Status; empty for none.
        headers: To send beside it.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.headers = headers or {}

    @override
    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.message}"

    def status(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, name: str, group: str = "") -> ApiError:
    """Nothing of this name."""
    return ApiError(
        404,
        "NotFound",
        f'{_qualified(plural, group)} "{name}" not found',
        details={"name": name, "group": group, "kind": plural},
    )


def conflict(plural: str, name: str, text: str, group: str = "") -> ApiError:
    """Somebody else was faster."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {text}',
        details={"name": name, "group": group, "kind": plural},
    )


def invalid(kind: str, name: str, text: str, *, field: str = "", group: str = "") -> ApiError:
    """The object breaks a rule of its kind."""
    qualified = f"{kind}.{group}" if group else kind
    return ApiError(
        422,
        "Invalid",
        f'{qualified} "{name}" is invalid: {f"{field}: " if field else ""}{text}',
        details={
            "name": name,
            "group": group,
            "kind": kind,
            "causes": [{"reason": "FieldValueInvalid", "message": text, "field": field}],
        },
    )


def gone(text: str) -> ApiError:
    """The resource version is older than what is remembered."""
    return ApiError(410, "Expired", text)


def unsupported(what: str) -> ApiError:
    """Something that this simulator does not do; never mistaken for an answer of a real server."""
    return ApiError(501, "NotImplemented", f"the simulated cluster does not serve {what}")
