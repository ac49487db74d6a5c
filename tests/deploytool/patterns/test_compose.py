"""The compose files of the documentation, together with the project's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deploytool import manifests
from deploytool.checks import catalog, evaluation
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Outcome, Report
from service.settings import GROUPS, settings_of
from tests.deploytool.patterns.pages import ROOT, blocks

(PRODUCTION,) = blocks("compose.md", "yaml")
(UPSTREAM,) = blocks("compose.md", "nginx")


class _Override(yaml.SafeLoader):
    """Knows compose's own tags."""

    def listed(self, node: yaml.SequenceNode) -> list[Any]:
        """Return a list as it stands."""
        return self.construct_sequence(node)


_Override.add_constructor("!override", _Override.listed)


def joined() -> dict[str, Any]:
    """Join the two files as ``docker compose config`` does, as far as they need it."""
    base = yaml.safe_load((ROOT / "compose.yaml").read_text())
    over = yaml.load(PRODUCTION, Loader=_Override)  # noqa: S506 - a safe one
    mine, theirs = base["services"]["slackwater"], over["services"].pop("slackwater")
    mine["environment"] |= theirs["environment"]
    mine["ports"] = theirs["ports"]
    base["services"] |= over["services"]
    return {**base, "networks": over["networks"]}


def judge(folder: Path, compose: dict[str, Any]) -> Report:
    """Do as the page says: what compose joined, and nginx's folder."""
    (folder / "compose.yaml").write_text(yaml.safe_dump(compose))
    (folder / "nginx").mkdir(exist_ok=True)
    (site,) = blocks("nginx.md", "nginx")
    before = "upstream" + site.partition("upstream")[2].partition("\n}\n")[0] + "\n}\n"
    (folder / "nginx" / "slackwater.conf").write_text(site.replace(before, UPSTREAM))
    return evaluation.evaluate(manifests.read([str(folder)], 0.0), Expectations(), catalog.ITEMS)


def test_the_check_of_the_page_finds_nothing(tmp_path: Path) -> None:
    """The two files together, and nginx before them."""
    report = judge(tmp_path, joined())

    assert Outcome.PASS is report.outcome
    assert {1, 3, 4, 10, 11} == {one.item.number for one in report.results if one.outcome is Outcome.PASS}


def test_more_copies_are_found(tmp_path: Path) -> None:
    """As the page warns."""
    compose = joined()
    compose["services"]["slackwater"]["scale"] = 2

    (first, *_) = judge(tmp_path, compose).results

    assert Outcome.FAIL is first.outcome


def test_the_files_of_the_page_are_read_alone_too(tmp_path: Path) -> None:
    """With the tag that compose knows and YAML does not."""
    (tmp_path / "compose.production.yaml").write_text(PRODUCTION)

    snapshot = manifests.read([str(tmp_path)], 0.0)

    assert 2 == len(snapshot.compose)


def test_variables_exist_and_services_fit() -> None:
    """A name that the service does not know would be passed over without a word."""
    document: dict[str, Any] = yaml.load(PRODUCTION, Loader=_Override)  # noqa: S506 - a safe one
    base = yaml.safe_load((ROOT / "compose.yaml").read_text())
    known = {setting.name for group in GROUPS.values() for setting in settings_of(group).values()}

    assert document["services"]["slackwater"]["environment"].keys() <= known
    assert "slackwater" in base["services"]
    assert "server slackwater:3000;" in UPSTREAM
    assert all(port.startswith("127.0.0.1:") for port in document["services"]["slackwater"]["ports"])
