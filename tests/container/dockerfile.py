"""Reads a Dockerfile and a .dockerignore: as much of both as ours use. Pure; anything else is refused by name."""

from __future__ import annotations

import fnmatch
import json
import shlex
import string
from dataclasses import dataclass, field
from pathlib import PurePosixPath

__all__ = ("Copy", "Run", "Stage", "is_in_context", "stages")


@dataclass(frozen=True, slots=True)
class Run:
    """A shell command of the build, with the environment and the folder that it runs in."""

    command: str
    environment: dict[str, str]
    folder: str


@dataclass(frozen=True, slots=True)
class Copy:
    """Files that come into the image.

    Attributes:
        stage: Name of the stage that they come from; None for the build context.
        target: Absolute.
        is_folder: Whether the sources go into ``target`` instead of becoming it.
    """

    sources: tuple[str, ...]
    target: str
    is_folder: bool
    stage: str | None


@dataclass(slots=True)
class Stage:
    """One ``FROM`` and what follows it."""

    base: str
    name: str | None
    steps: list[Run | Copy] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    stop_signal: str = "SIGTERM"
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def _expand(self, text: str) -> str:
        return string.Template(text).safe_substitute({**self.arguments, **self.environment})

    def apply(self, keyword: str, text: str) -> None:
        """Take in one instruction.

        Raises:
            ValueError: The instruction is one that this reader does not know.
        """
        method = getattr(self, f"_{keyword.lower()}", None)
        if method is None:
            message = f"{keyword} is not read here yet"
            raise ValueError(message)
        method(text)

    def _env(self, text: str) -> None:
        for pair in shlex.split(self._expand(text)):
            name, _, value = pair.partition("=")
            self.environment[name] = value

    def _arg(self, text: str) -> None:
        name, _, value = shlex.split(text)[0].partition("=")
        self.arguments[name] = value

    def _run(self, text: str) -> None:
        self.steps.append(Run(text, {**self.arguments, **self.environment}, self.folder))

    def _copy(self, text: str) -> None:
        words = shlex.split(self._expand(text))
        stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
        *sources, target = words
        is_folder = target.endswith("/") or len(sources) > 1
        self.steps.append(Copy(tuple(sources), str(PurePosixPath(self.folder, target)), is_folder, stage))

    def _workdir(self, text: str) -> None:
        self.folder = str(PurePosixPath(self.folder, text))

    def _user(self, text: str) -> None:
        self.user = text

    def _volume(self, text: str) -> None:
        self.volumes.extend(text.split())

    def _expose(self, text: str) -> None:
        self.ports.extend(int(port) for port in text.split())

    def _stopsignal(self, text: str) -> None:
        self.stop_signal = text

    def _entrypoint(self, text: str) -> None:
        self.entrypoint = json.loads(text)

    def _healthcheck(self, text: str) -> None:
        self.healthcheck = json.loads(text.partition(" CMD ")[2])


def stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile in order; the last one is the image."""
    found: list[Stage] = []
    for keyword, rest in _instructions(text):
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            # What the official Python images set themselves.
            found.append(
                Stage(
                    base,
                    name or None,
                    environment={"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"},
                )
            )
        else:
            found[-1].apply(keyword, rest)
    return found


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = (line.split(maxsplit=1) for line in joined.splitlines())
    return [(keyword.upper(), " ".join(rest.split())) for keyword, rest in split]


def is_in_context(path: str, ignore: str) -> bool:
    """Say whether a file reaches the builder; the last rule of .dockerignore that matches it decides."""
    result = True
    for line in ignore.splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#") and _matches(path, rule.removeprefix("!")):
            result = rule.startswith("!")
    return result


def _matches(path: str, pattern: str) -> bool:
    """Match a path, or a folder that it is in; ``**/`` is any folder or none."""
    parts = PurePosixPath(path).parts
    floating = pattern.startswith("**/")
    pattern = pattern.removeprefix("**/")
    starts = range(len(parts)) if floating else (0,)
    depth = len(PurePosixPath(pattern).parts)
    return any(fnmatch.fnmatchcase("/".join(parts[start : start + depth]), pattern) for start in starts)
