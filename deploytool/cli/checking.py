"""How a check runs: what is judged, where it is looked at, what is printed and when."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploytool.checks import catalog, evaluation
from deploytool.checks.load import running_digest
from deploytool.cli.progress import Terminal
from deploytool.cli.render import machine, text
from deploytool.clock import SystemClock
from deploytool.errors import DeploytoolError, ManifestError, SettingsError
from deploytool.manifests.documents import load
from deploytool.model.finding import Depth, Outcome, Report
from deploytool.settings import FILE, Settings, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploytool.model.finding import Category, Item, Result
    from deploytool.model.snapshot import Snapshot

__all__ = ("Plan", "Printing", "exit_code", "live", "offline", "plan", "run", "words")

_EXIT_CODES = {
    Outcome.PASS: 0,
    Outcome.WARN: 0,
    Outcome.WAIVED: 0,
    Outcome.FAIL: 3,
    Outcome.INCONCLUSIVE: 5,
}
_WARNED_UNDER_STRICT = 4
_PAUSE_SECONDS = 5.0
_WRITERS: Mapping[str, Callable[[Report], str]] = {
    "table": text.table,
    "short": text.short,
    "json": machine.as_json,
    "junit": machine.as_junit,
    "sarif": machine.as_sarif,
}
_COLOURS = {
    Outcome.PASS: "green",
    Outcome.WARN: "yellow",
    Outcome.FAIL: "red",
    Outcome.INCONCLUSIVE: "magenta",
    Outcome.BLOCKED: "magenta",
}
_LOAD_ITEM = "monitoring.performance-test"
_OPTIONAL = frozenset({"httpx", "kubernetes"})


class _MissingPackageError(DeploytoolError):
    """A package of the extra is not installed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is judged, and by which settings."""

    items: tuple[Item, ...]
    settings: Settings

    @property
    def needs(self) -> frozenset[str]:
        """Names of the fields of a snapshot that the items look at."""
        return frozenset(name for item in self.items for name in item.needs)


@dataclass(frozen=True, slots=True)
class Printing:
    """What becomes of a report.

    Attributes:
        file: Where it is written; None for stdout.
        is_strict: Whether a warning is more than something to read.
        wait_seconds: How long to look again until all is well; 0 for once.
    """

    output: str
    file: str | None
    is_strict: bool
    wait_seconds: float


def words() -> dict[str, str]:
    """Return the id of an item by each word that stands for it alone."""
    return {word: item.id for item in catalog.ITEMS for word in (item.id, item.name, str(item.number))}


def plan(config: str | None, select: Sequence[str], skip: Sequence[str]) -> Plan:
    """Return what is to be judged.

    Args:
        config: File with the settings; None for the one in this directory, where there is one.
        select: Items or categories; none for all.
        skip: Items or categories that are left out, beside those that the settings name.

    Raises:
        DeploytoolError: The settings make no sense.
        click.BadParameter: A word stands for no item, or nothing is left.
    """
    settings = _settings(config)
    for hint, given in (("--select", select), ("--skip", skip), (f"skip in {settings.source}", settings.skip)):
        for word in given:
            if not catalog.find(word):
                way_out = "give each one by an option of its own" if "," in word else "see `docs/reference/checks.md`"
                raise click.BadParameter(f"there is no item {word!r}; {way_out}", param_hint=hint)
    items = catalog.select(select, (*skip, *settings.skip))
    if not items:
        raise click.BadParameter("nothing is left to judge", param_hint="--skip")
    return Plan(items, settings)


def _settings(config: str | None) -> Settings:
    path = Path(config or FILE)
    if config is None and not path.is_file():
        return Settings()
    try:
        documents = load(str(path), path.read_bytes())
    except OSError as error:
        raise ManifestError(str(path), f"cannot be read: {error.strerror or error}") from error
    if len(documents) > 1:
        raise SettingsError(str(path), ["it holds more than one document"])
    return settings_of(str(path), documents[0] if documents else None, words())


def offline(
    paths: Sequence[str], names: Sequence[str], values: Sequence[str], assignments: Sequence[str]
) -> Iterator[Snapshot]:
    """Yield the one snapshot that files make."""
    from deploytool import manifests

    files = [(name, _content(name)) for name in values]
    reading = manifests.Reading(environment=os.environ, value_files=files, assignments=assignments)
    yield manifests.read(paths, SystemClock().wall(), reading).only(frozenset(names))


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ManifestError(path, f"cannot be read: {error.strerror or error}") from error


def live(chosen: Plan, *, probe: bool, given: Mapping[str, Any]) -> Iterator[Snapshot]:
    """Yield what is seen of a release, more and more of it.

    Args:
        chosen: What is judged.
        probe: Whether traffic is allowed.
        given: What the command line says, over what the settings say; None and empty say nothing.
    """
    try:
        from deploytool.cli.live import LiveOptions, observe
    except ImportError as error:
        raise _without(error) from error
    known = {field.name for field in dataclasses.fields(LiveOptions)}
    said = {name: value for name, value in given.items() if value not in {None, ""} and name in known}
    wanted = {name: value for name, value in chosen.settings.where.items() if name in known}
    progress = Terminal()
    seen = observe(
        LiveOptions(**{**wanted, **said}),
        needs=chosen.needs,
        depth=Depth.PROBE if probe else Depth.LIVE,
        expectations=chosen.settings.expectations,
        load_item=_LOAD_ITEM,
        progress=progress,
    )
    try:
        for snapshot in seen:
            # Results are printed before the next step: not behind what is said of this one.
            progress.clear()
            yield snapshot
    except ImportError as error:
        raise _without(error) from error
    finally:
        seen.close()
        progress.clear()


def _without(error: ImportError) -> Exception:
    if (error.name or "").partition(".")[0] not in _OPTIONAL:
        return error
    return _MissingPackageError(
        f"looking at a cluster needs the package {error.name}: pip install 'slackwater[deploytool]' "
        "(--offline works without it)"
    )


def run(chosen: Plan, look: Callable[[], Iterator[Snapshot]], printing: Printing) -> int:
    """Look, judge, print, and return what the process ends with."""
    clock = SystemClock()
    deadline = clock.now() + printing.wait_seconds
    while True:
        is_last = not printing.wait_seconds
        report = _judged(chosen, look, is_streaming=is_last and _streams(printing))
        code = exit_code(report, is_strict=printing.is_strict)
        if code == 0 or clock.now() + _PAUSE_SECONDS > deadline:
            break
        click.echo(f"{text.summary(report)}; looking again in {_PAUSE_SECONDS:g} s", err=True)
        time.sleep(_PAUSE_SECONDS)
    _print(report, printing, is_streamed=is_last and _streams(printing))
    return code


def _streams(printing: Printing) -> bool:
    return printing.output == "table" or printing.file is not None


def _judged(chosen: Plan, look: Callable[[], Iterator[Snapshot]], *, is_streaming: bool) -> Report:
    last: list[Snapshot] = []
    results: list[Result] = []
    before: Category | None = None
    for result in evaluation.results(_remembered(look(), last), chosen.settings.expectations, chosen.items):
        results.append(result)
        if is_streaming:
            _show(result, before)
            before = result.item.category
    snapshot = last[-1]
    return Report(snapshot.depth, snapshot.at, str(snapshot.target), tuple(results), running_digest(snapshot))


def _remembered(snapshots: Iterator[Snapshot], last: list[Snapshot]) -> Iterator[Snapshot]:
    for snapshot in snapshots:
        last[:] = [snapshot]
        yield snapshot


def _show(result: Result, before: Category | None) -> None:
    for line in text.table_lines(result, before):
        click.echo(_coloured(line, result))


def _coloured(line: str, result: Result) -> str:
    """Colour the outcome in the first line of a result; click drops colours where they are not wanted."""
    word = text.word(result.outcome).rstrip()
    colour = _COLOURS.get(result.outcome)
    if colour is None or os.environ.get("NO_COLOR") or not line.startswith(f"  {word} "):
        return line
    return f"  {click.style(word, fg=colour)}{line[2 + len(word) :]}"


def _print(report: Report, printing: Printing, *, is_streamed: bool) -> None:
    written = _WRITERS[printing.output](report)
    if printing.file is not None:
        try:
            Path(printing.file).write_text(f"{written}\n", encoding="utf-8")
        except OSError as error:
            problem = f"{printing.file} cannot be written: {error.strerror or error}"
            raise click.BadParameter(problem, param_hint="--output-file") from error
        written = text.table(report)
    if is_streamed:
        click.echo(f"\n{text.summary(report)}")
    else:
        click.echo(written)


def exit_code(report: Report, *, is_strict: bool) -> int:
    """Return what the process ends with after this report.

    Args:
        report: What was found.
        is_strict: Whether a warning is more than something to read.
    """
    if is_strict and report.outcome is Outcome.WARN:
        return _WARNED_UNDER_STRICT
    return _EXIT_CODES[report.outcome]
