"""Errors of HTTP as documents that say what is wrong. Source: RFC 9457."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException

__all__ = ("MEDIA_TYPE", "explain")

MEDIA_TYPE: Final = "application/problem+json"


def explain(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, object]]:
    """Turn an exception of Litestar into a problem; for ``exception_handlers``.

    A mapping in its ``extra`` becomes further members.
    """
    title = HTTPStatus(error.status_code).phrase
    body = {"type": "about:blank", "title": title, "status": error.status_code, "detail": error.detail or title}
    more = error.extra if isinstance(error.extra, dict) else {}
    headers = {"Cache-Control": "no-store", **(error.headers or {})}
    return Response(more | body, status_code=error.status_code, media_type=MEDIA_TYPE, headers=headers)
