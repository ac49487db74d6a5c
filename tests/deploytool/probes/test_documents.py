from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.clock import SystemClock
from deploytool.model.observations import PrometheusRules, Unseen
from deploytool.probes.documents import MOST_DOCUMENTS, fetch_document, fetch_documents, fetch_rules
from tests.support.edge import odd_server, serve_pages

CLOCK = SystemClock()
_RULES = "/api/v1/rules?type=alert"


@pytest.fixture
def pages() -> Iterator[tuple[dict[str, bytes], str]]:
    """Pages that a test may change, and where they are."""
    content: dict[str, bytes] = {"/a.md": b"# A\n"}
    with serve_pages(content) as site:
        yield content, site


def test_document_is_known_by_its_digest(pages: tuple[dict[str, bytes], str]) -> None:
    """Of the bytes as they came."""
    trial = fetch_document(f"{pages[1]}/a.md", CLOCK)

    assert (200, hashlib.sha256(b"# A\n").hexdigest(), "") == (trial.status, trial.sha256, trial.error)
    assert trial.resolves


def test_absent_document_is_an_answer(pages: tuple[dict[str, bytes], str]) -> None:
    """It was looked for, and is not there."""
    trial = fetch_document(f"{pages[1]}/gone.md", CLOCK)

    assert 404 == trial.status
    assert not trial.resolves


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "file:///etc/passwd", "javascript:1", "", "/deploy.md", "http://", "http://["]
)
def test_odd_address_is_a_sentence(url: str) -> None:
    """Files of this machine are none of its business."""
    trial = fetch_document(url, CLOCK)

    assert trial.status is None
    assert trial.error


@pytest.mark.parametrize("answer", [b"", b"hello", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_server_that_is_none_is_a_sentence(answer: bytes) -> None:
    """Whatever listens there."""
    with odd_server(answer) as port:
        trial = fetch_document(f"http://127.0.0.1:{port}/a", CLOCK)

    assert trial.status is None
    assert "cannot be fetched" in trial.error


def test_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a limit of time."""
    monkeypatch.setattr("deploytool.probes.documents._SECONDS", 0.2)
    with odd_server(None) as port:
        trial = fetch_document(f"http://127.0.0.1:{port}/a", CLOCK)

    assert "did not answer within" in trial.error


def test_endless_document_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a limit of size."""
    monkeypatch.setattr("deploytool.probes.documents._MOST_BYTES", 3)
    with odd_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789") as port:
        assert "more than 3 bytes" in fetch_document(f"http://127.0.0.1:{port}/a", CLOCK).error


def test_each_document_is_fetched_once_and_not_too_many(pages: tuple[dict[str, bytes], str]) -> None:
    """Those beyond the bound are said to be unread."""
    urls = [f"{pages[1]}/a.md"] * 3 + [f"{pages[1]}/{number:03}.md" for number in range(MOST_DOCUMENTS + 2)]
    trials = fetch_documents(urls, CLOCK)

    assert len({one.url for one in trials}) == len(trials) == MOST_DOCUMENTS + 3
    assert 3 == sum("at most" in one.error for one in trials)


def test_certificates_that_are_none_are_a_sentence(tmp_path: Path) -> None:
    """Before anything is asked."""
    trial = fetch_document("https://127.0.0.1:1/a", CLOCK, ca_file=str(tmp_path / "nowhere"))

    assert "cannot be used" in trial.error


def test_rules_are_those_that_alert(pages: tuple[dict[str, bytes], str]) -> None:
    """As Prometheus has loaded them, with their health."""
    alert = {
        "type": "alerting",
        "name": "SlackwaterMemoryHigh",
        "query": "x > 1",
        "health": "err",
        "lastError": "many-to-many",
        "annotations": {"runbook_url": "https://a/b"},
    }
    groups = [{"name": "g", "rules": [alert, {"type": "recording", "name": "r", "query": "y"}]}]
    pages[0][_RULES] = json.dumps({"status": "success", "data": {"groups": groups}}).encode()

    found = fetch_rules(f"{pages[1]}/", CLOCK)

    assert isinstance(found, PrometheusRules)
    (rule,) = found.rules
    assert ("SlackwaterMemoryHigh", "x > 1", "err", "many-to-many") == (rule.name, rule.query, rule.health, rule.error)
    assert {"runbook_url": "https://a/b"} == rule.annotations


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 3}', b'{"data": {"groups": [3]}}', b"[" * 50_000])
def test_prometheus_that_is_none_is_inconclusive(pages: tuple[dict[str, bytes], str], body: bytes) -> None:
    """With the option that named it."""
    pages[0][_RULES] = body

    found = fetch_rules(pages[1], CLOCK)

    assert isinstance(found, Unseen)
    assert "--prometheus-url" in found.way_out


def test_prometheus_that_refuses_is_inconclusive(pages: tuple[dict[str, bytes], str]) -> None:
    """Its status is told."""
    found = fetch_rules(pages[1], CLOCK)

    assert isinstance(found, Unseen)
    assert "HTTP 404" in found.why


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed."""
    monkeypatch.setitem(sys.modules, "httpx", None)

    assert "needs the package httpx" in fetch_document("https://a/b", CLOCK).error
