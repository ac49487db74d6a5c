from __future__ import annotations

from itertools import pairwise

import pytest

from service.core.codes import Disconnect, Disconnects, Errors, Unsubscribe, Unsubscribes, rows

# The table of the client protocol, written down a second time.
ERRORS = {
    100: ("internal server error", True),
    101: ("unauthorized", False),
    102: ("unknown channel", False),
    103: ("permission denied", False),
    104: ("method not found", False),
    105: ("already subscribed", False),
    106: ("limit exceeded", False),
    107: ("bad request", False),
    108: ("not available", False),
    109: ("token expired", False),
    110: ("expired", False),
    111: ("too many requests", True),
    112: ("unrecoverable position", False),
}
UNSUBSCRIBES = {
    2000: ("server unsubscribe", False),
    2500: ("insufficient state", True),
    2501: ("subscription expired", True),
    2502: ("state invalidated", True),
}
DISCONNECTS = {
    3000: True,
    3001: True,
    3004: True,
    3005: True,
    3006: True,
    3008: True,
    3009: True,
    3010: True,
    3011: True,
    3012: True,
    3013: True,
    3014: True,
    3500: False,
    3501: False,
    3502: False,
    3503: False,
    3504: False,
    3505: False,
    3506: False,
    3507: False,
    3508: False,
    3509: False,
}


def test_errors_are_those_of_the_protocol() -> None:
    """Code, message, and whether a client tries again by itself."""
    assert ERRORS == {row.code: (row.message, row.temporary) for _, row in rows(Errors)}  # type: ignore[union-attr]


def test_unsubscribes_are_those_of_the_protocol() -> None:
    """Code, reason, and whether a client subscribes again by itself."""
    found = {row.code: (row.reason, row.resubscribes) for _, row in rows(Unsubscribes)}  # type: ignore[union-attr]

    assert UNSUBSCRIBES == found


def test_disconnects_are_those_of_the_protocol() -> None:
    """Code, and whether a client comes back by itself."""
    assert DISCONNECTS == {row.code: row.reconnects for _, row in rows(Disconnects)}  # type: ignore[union-attr]


@pytest.mark.parametrize("table", [Errors, Disconnects, Unsubscribes])
def test_rows_come_in_order_of_their_codes(table: type) -> None:
    """So that a reader finds one, and a page made of them is sorted."""
    codes = [row.code for _, row in rows(table)]

    assert all(before <= after for before, after in pairwise(codes))


@pytest.mark.parametrize(("name", "row"), rows(Disconnects))
def test_reason_fits_a_close_frame_and_is_never_empty(name: str, row: Disconnect) -> None:
    """An empty reason makes the JavaScript client come back even after a terminal code."""
    assert name.isupper()
    assert 1 <= len(row.reason.encode()) <= 123
    assert not row.reason.startswith("{")


@pytest.mark.parametrize(
    ("code", "reconnects"),
    [
        (2999, True),
        (3000, True),
        (3499, True),
        (3500, False),
        (3999, False),
        (4000, True),
        (4499, True),
        (4500, False),
        (4999, False),
        (5000, True),
    ],
)
def test_reconnects_by_the_range_of_the_code(code: int, *, reconnects: bool) -> None:
    """Applications close with codes of their own by the same rule."""
    assert reconnects is Disconnect(code, "any").reconnects


@pytest.mark.parametrize(("code", "resubscribes"), [(2000, False), (2499, False), (2500, True), (2999, True)])
def test_resubscribes_by_the_range_of_the_code(code: int, *, resubscribes: bool) -> None:
    """From 2500 on."""
    assert resubscribes is Unsubscribe(code, "any").resubscribes


def test_rows_leave_out_what_is_no_code() -> None:
    """A table is a class, which holds more than its rows."""

    class Table:
        """Two things, one of them a code."""

        ONE = Disconnect(3000, "one")
        OTHER = "text"

    assert (("ONE", Table.ONE),) == rows(Table)
