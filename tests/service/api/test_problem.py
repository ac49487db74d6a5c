"""Exceptions as problem documents."""

from __future__ import annotations

import json
from typing import Any, cast

from litestar import Request
from litestar.exceptions import HTTPException

from service.api.problem import MEDIA_TYPE, explain

REQUEST = cast("Request[Any, Any, Any]", None)


def test_problem_has_the_members_of_the_standard() -> None:
    """And those that the exception brings besides, which cannot take their place."""
    answer = explain(REQUEST, HTTPException(status_code=409, detail="not now", extra={"phase": "CLOSED", "status": 1}))

    assert (409, MEDIA_TYPE) == (answer.status_code, answer.media_type)
    assert {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "not now",
        "phase": "CLOSED",
    } == answer.content


def test_problem_always_has_a_detail() -> None:
    """The phrase of the status when nobody said more."""
    answer = explain(REQUEST, HTTPException(status_code=413, detail="", headers={"Retry-After": "1"}))

    assert answer.content["title"] == answer.content["detail"]
    assert {"retry-after", "cache-control"} <= {name.lower() for name in answer.headers}
    assert json.dumps(answer.content)
