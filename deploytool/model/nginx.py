"""An nginx configuration as a tree of directives, with the line of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytool.model.finding import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Directive",)


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive, such as ``proxy_pass http://app;``, or a block with those inside it.

    Attributes:
        name: Empty for a whole file.
        arguments: With quotes removed.
        line: Of the name, counted from 1.
        block: The directives between the braces; None for one that ends with a semicolon.
    """

    source: str
    name: str
    arguments: tuple[str, ...]
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def text(self) -> str:
        """Name and arguments, for people."""
        return " ".join((self.name, *self.arguments))

    @property
    def evidence(self) -> Evidence:
        """The directive as evidence."""
        return Evidence(self.source, self.name, " ".join(self.arguments), line=self.line)

    def every(self, name: str) -> tuple[Directive, ...]:
        """Return the directives of this name directly inside."""
        return tuple(one for one in self.block or () if one.name == name)

    def walk(self) -> Iterator[tuple[Directive, tuple[Directive, ...]]]:
        """Yield every directive inside with the blocks around it, outermost first."""
        waiting: list[tuple[Directive, tuple[Directive, ...]]] = [(one, (self,)) for one in reversed(self.block or ())]
        while waiting:
            directive, around = waiting.pop()
            yield directive, around
            waiting.extend((one, (*around, directive)) for one in reversed(directive.block or ()))
