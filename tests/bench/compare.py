"""A run against an earlier one that was stored as JSON: what differs by more than the spread of both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import FIGURES, Better, Figure
from tests.bench.servers import REFERENCE

__all__ = ("Difference", "differences", "incomparable")

NOISE = 0.05
"""Smaller differences are none, whatever the spread: that of three runs may be small by chance."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one server, then and now."""

    figure: Figure
    is_ratio: bool
    """To the reference of the same run, which is what two machines or two days have in common."""
    before: float
    now: float
    spread: float
    """Of both runs together, as a share."""

    @property
    def change(self) -> float:
        """Of the value, as a share of what it was."""
        return self.now / self.before - 1 if self.before else 0.0

    @property
    def is_beyond_spread(self) -> bool:
        """Whether it is more than chance."""
        return abs(self.change) > max(self.spread, NOISE)

    @property
    def is_better(self) -> bool:
        """Whether the change is in the good direction."""
        return (self.change > 0) is (self.figure.better is Better.HIGHER)


def incomparable(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the options in which two documents differ, other than how often and where was measured."""
    ignored = {"runs", "server", "generator"}
    then, today = before.get("options", {}), now.get("options", {})
    return sorted(
        name for name in then.keys() | today.keys() if then.get(name) != today.get(name) and name not in ignored
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any], server: str) -> Iterator[Difference]:
    """Compare what both documents have of one server, in the order of the table."""
    then, today = _figures(before), _figures(now)
    for figure in FIGURES:
        if figure.key in then and figure.key in today:
            difference = _difference(figure, then[figure.key], today[figure.key], server)
            if difference is not None:
                yield difference


def _figures(document: Mapping[str, Any]) -> dict[str, Any]:
    return {figure["key"]: figure["servers"] for figure in document.get("figures", ())}


def _difference(figure: Figure, before: Mapping[str, Any], now: Mapping[str, Any], server: str) -> Difference | None:
    if server not in before or server not in now:
        return None
    sides = [_side(before, server), _side(now, server)]
    is_ratio = all(side is not None for side in sides)
    if not is_ratio:
        sides = [(found[server]["median"], found[server]["spread"]) for found in (before, now)]
    (then, then_spread), (today, today_spread) = (side or (0.0, 0.0) for side in sides)
    return Difference(figure, is_ratio, then, today, then_spread + today_spread)


def _side(servers: Mapping[str, Any], server: str) -> tuple[float, float] | None:
    """The ratio to the reference with its spread; None where the reference was not measured."""
    value = servers[server]["ratio"]
    if value is None or server == REFERENCE:
        return None
    return float(value), float(servers[server]["spread"] + servers[REFERENCE]["spread"])
