"""How a check runs: again while it may wait, printing as it goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.checks.catalog import ITEMS, select
from deploytool.cli import checking
from deploytool.cli.checking import Plan, Printing
from deploytool.model.finding import Outcome
from deploytool.model.snapshot import Snapshot
from deploytool.settings import Settings
from tests.deploytool.checks.releases import EXPECTATIONS, changed, judge, release

PLAN = Plan(ITEMS, Settings(EXPECTATIONS))
BROKEN = changed("scale_trial", refused=False)


def printing(output: str = "short", *, wait: float = 0.0, file: str | None = None) -> Printing:
    """Print in a format."""
    return Printing(output, file, is_strict=False, wait_seconds=wait)


def test_waiting_looks_again_until_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the last report is printed; what happens meanwhile is told on stderr."""
    monkeypatch.setattr(checking, "_PAUSE_SECONDS", 0.0)
    looks = iter([BROKEN(release()), BROKEN(release()), release()])

    code = checking.run(PLAN, lambda: iter([next(looks)]), printing(wait=60))

    said = capsys.readouterr()
    assert 0 == code
    assert 17 == len(said.out.splitlines())
    assert 2 == said.err.count("looking again")


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With what was seen last."""
    monkeypatch.setattr(checking, "_PAUSE_SECONDS", 3600.0)

    code = checking.run(PLAN, lambda: iter([BROKEN(release())]), printing("table", wait=1))

    assert 3 == code
    assert capsys.readouterr().out.startswith("Infrastructure\n  FAIL ")


def test_the_table_is_printed_as_results_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    """What was seen first is read while the rest is still being looked at."""
    whole = release()
    printed: list[str] = []

    def look() -> Iterator[Snapshot]:
        yield dataclasses.replace(whole, pending=frozenset({"attestations"}))
        printed.append(capsys.readouterr().out)
        yield whole

    checking.run(PLAN, look, printing("table"))

    rest = capsys.readouterr().out
    assert "[tls]" in printed[0]
    assert "[team-trained]" not in printed[0]
    assert rest.splitlines()[1] == "Documentation"
    assert "[runbooks]" in rest


def test_what_machines_read_comes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Half a JSON document is none."""
    checking.run(PLAN, lambda: iter([release()]), printing("json"))

    assert capsys.readouterr().out.startswith("{")


def test_the_report_names_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evidence is for one image; the next one has to be judged again."""
    checking.run(PLAN, lambda: iter([release()]), printing("short", file=str(tmp_path / "report")))

    assert "image sha256:9f" in (tmp_path / "report").read_text()
    assert "image\nsha256:9f" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("outcome", "no_colour", "starts"),
    [
        pytest.param(Outcome.PASS, "", "  \x1b[32mpass\x1b[0m ", id="green"),
        pytest.param(Outcome.FAIL, "", "  \x1b[31mFAIL\x1b[0m ", id="red"),
        pytest.param(Outcome.FAIL, "1", "  FAIL ", id="NO_COLOR"),
    ],
)
def test_colour_is_added_to_the_outcome_alone(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, no_colour: str, starts: str
) -> None:
    """The word stands there anyway."""
    monkeypatch.setenv("NO_COLOR", no_colour)
    snapshot = BROKEN(release()) if outcome is Outcome.FAIL else release()
    (found,) = judge(snapshot, items=select(["1"], [])).results

    line = checking._coloured(f"  {'pass' if outcome is Outcome.PASS else 'FAIL'}          1  title", found)

    assert line.startswith(starts)
    assert line.endswith("title")
