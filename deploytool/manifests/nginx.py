"""Reads nginx configurations: a small, tolerant parser that knows the syntax and no directive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deploytool.errors import ManifestError
from deploytool.model.nginx import Directive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ("is_likely", "parse")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v\ufeff]+)
      | (?P<newline>\n)
      | (?P<comment>\#[^\n]*)
      | (?P<mark>[{};])
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | '(?P<single>(?:[^'\\]|\\.)*)'
      | (?P<open>["'])
      | (?P<word>(?:\\.|\$\{[^}\n]*\}|[^\s{};\\]|\\)+)
    """,
    re.VERBOSE | re.DOTALL,
)
_DEEPEST = 64
_BRACE = re.compile(r"[{}]")
_LIKELY = re.compile(r"^[ \t]*(server|upstream|http|location)\b[^;\n]*\{", re.MULTILINE)

_Token = tuple[str, str, int]


def is_likely(text: str) -> bool:
    """Whether a file looks like a configuration of nginx rather than of something else."""
    return _LIKELY.search(text) is not None


def parse(source: str, text: str, include: Callable[[str], Sequence[tuple[str, str]]] | None = None) -> Directive:
    """Return a file as a block without a name.

    Args:
        source: Name of the file, for findings and errors.
        text: Its content.
        include: Returns names and contents of the files that an ``include`` stands for; none when they cannot be read,
            and then the directive stays as it is. When left out, nothing is included.

    Raises:
        ManifestError: Braces or quotes do not match, or a directive does not end.
    """
    return Directive(source, "", (), 1, tuple(_Parser(source, text, include, 0).block()))


class _Parser:
    """One file; ``depth`` counts the files that it was included through and the blocks that it is in."""

    def __init__(
        self, source: str, text: str, include: Callable[[str], Sequence[tuple[str, str]]] | None, depth: int
    ) -> None:
        self._source = source
        self._text = text
        self._include = include
        self._depth = depth
        self._at = 0
        self._line = 1

    def block(self, opened: int | None = None) -> Iterator[Directive]:
        """Yield the directives up to the closing brace, or up to the end of the file."""
        if self._depth > _DEEPEST:
            raise ManifestError(self._source, "nested too deeply", line=self._line)
        words: list[tuple[str, int]] = []
        for kind, text, line in self._tokens():
            if kind == "word":
                words.append((text, line))
            elif text == "}":
                self._refuse_unless(opened is not None, "a closing brace too many", line)
                self._refuse_unless(not words, "a directive without a semicolon", words[0][1] if words else line)
                return
            elif words:
                yield from self._directive(words, text)
                words = []
            else:
                self._refuse_unless(text == ";", "a block without a name", line)
        self._refuse_unless(not words, "a directive without a semicolon", words[0][1] if words else self._line)
        self._refuse_unless(opened is None, "a block that is never closed", opened or self._line)

    def _directive(self, words: list[tuple[str, int]], end: str) -> Iterator[Directive]:
        (name, line), arguments = words[0], tuple(word for word, _ in words[1:])
        if end == "{" and name.endswith("_by_lua_block"):
            self._skip_lua(line)
            yield Directive(self._source, name, arguments, line, ())
        elif end == "{":
            self._depth += 1
            yield Directive(self._source, name, arguments, line, tuple(self.block(line)))
            self._depth -= 1
        else:
            included = self._included(name, arguments)
            yield from included if included is not None else (Directive(self._source, name, arguments, line),)

    def _included(self, name: str, arguments: tuple[str, ...]) -> list[Directive] | None:
        if name != "include" or len(arguments) != 1 or self._include is None:
            return None
        files = self._include(arguments[0])
        if not files:
            return None
        return [one for source, text in files for one in _Parser(source, text, self._include, self._depth + 8).block()]

    def _tokens(self) -> Iterator[_Token]:
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                raise ManifestError(self._source, "cannot be read", line=self._line)
            line, kind = self._line, found.lastgroup or ""
            self._at = found.end()
            self._line += found[0].count("\n")
            if kind == "open":
                raise ManifestError(self._source, "a quote that is never closed", line=line)
            if kind in {"double", "single"}:
                yield "word", re.sub(r"\\([\"'\\])", r"\1", found[kind]), line
            elif kind in {"word", "mark"}:
                yield kind, found[0], line

    def _skip_lua(self, line: int) -> None:
        depth = 1
        while depth:
            found = _BRACE.search(self._text, self._at)
            if found is None:
                raise ManifestError(self._source, "a block that is never closed", line=line)
            self._line += self._text.count("\n", self._at, found.end())
            self._at = found.end()
            depth += 1 if found[0] == "{" else -1

    def _refuse_unless(self, holds: bool, problem: str, line: int) -> None:  # noqa: FBT001  # what it refuses by
        if not holds:
            raise ManifestError(self._source, f"no nginx configuration: {problem}", line=line)
