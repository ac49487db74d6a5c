"""Answers of cluster, service and traffic that are odd rather than wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from deploytool.model.expectations import Expectations
from deploytool.model.finding import Outcome
from deploytool.model.observations import HandshakeTrial, Unseen
from deploytool.model.snapshot import Snapshot
from tests.deploytool.checks.releases import (
    ADA,
    DAY,
    EXPECTATIONS,
    NOW,
    PUBLIC,
    changed,
    edited,
    judge,
    release,
    result,
    seen,
    unread,
    without,
)

Change = Callable[[Snapshot], Snapshot]


def _unpinned(snapshot: Snapshot) -> Snapshot:
    """Let nobody say which image runs."""

    def untag(content: dict[str, object]) -> None:
        deployment: dict[str, dict[str, dict[str, dict[str, list[dict[str, str]]]]]] = content  # type: ignore[assignment]  # it is one
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.org/slackwater:0.1.0"

    return edited("Deployment", untag)(changed("status", image_digest="")(snapshot))


def _renamed(snapshot: Snapshot) -> Snapshot:
    assert isinstance(snapshot.attestations, tuple)
    return snapshot.with_seen(
        attestations=tuple(dataclasses.replace(one, url="", sha256="") for one in snapshot.attestations)
    )


def _endless(snapshot: Snapshot) -> Snapshot:
    assert isinstance(snapshot.attestations, tuple)
    return snapshot.with_seen(
        attestations=tuple(dataclasses.replace(one, expires_at=NOW + 900 * DAY) for one in snapshot.attestations)
    )


@pytest.mark.parametrize(
    ("number", "change", "outcome", "says"),
    [
        pytest.param(1, seen(handshakes=()), Outcome.INCONCLUSIVE, "no handshake said", id="no handshake"),
        pytest.param(
            4, seen(handshakes=(HandshakeTrial(PUBLIC, NOW, "i-1"),)), Outcome.INCONCLUSIVE, "too few", id="one"
        ),
        pytest.param(4, seen(handshakes=()), Outcome.INCONCLUSIVE, "too few", id="none"),
        pytest.param(5, changed("gauge", opened=0), Outcome.INCONCLUSIVE, "no probe could be opened", id="no probe"),
        pytest.param(
            5, unread("ServiceMonitor"), Outcome.INCONCLUSIVE, "what Prometheus scrapes", id="monitors unread"
        ),
        pytest.param(8, _unpinned, Outcome.INCONCLUSIVE, "nothing says which image runs", id="no digest"),
        pytest.param(
            8, changed("status", image_digest=""), Outcome.PASS, "the image that runs", id="digest of the object"
        ),
        pytest.param(10, changed("rate", refusal=108), Outcome.FAIL, "not with 111 or 3013", id="another refusal"),
        pytest.param(
            12, changed("tls", accepts_old=None), Outcome.PASS, "older ones could not be tried", id="old untried"
        ),
        pytest.param(12, changed("tls", not_after=None), Outcome.PASS, "chain and name", id="no date"),
        pytest.param(12, changed("tls", protocol="TLSv1"), Outcome.FAIL, "older is accepted", id="old TLS agreed on"),
        pytest.param(14, _renamed, Outcome.FAIL, "names no document", id="no document"),
        pytest.param(14, _endless, Outcome.WARN, "is valid for 910 days, more than 400", id="too long"),
        pytest.param(13, _endless, Outcome.WARN, "is valid for 910 days, more than 400", id="training for too long"),
        pytest.param(14, seen(documents=()), Outcome.INCONCLUSIVE, "was not fetched", id="not fetched"),
        pytest.param(14, unread("ValidatingAdmissionPolicy"), Outcome.WARN, "was not seen", id="policy unread"),
        pytest.param(
            14, without("ValidatingAdmissionPolicyBinding"), Outcome.WARN, "authorship is not enforced", id="not bound"
        ),
        pytest.param(1, unread("Deployment"), Outcome.INCONCLUSIVE, "were not seen", id="deployments unread"),
    ],
)
def test_odd_answers(number: int, change: Change, outcome: Outcome, says: str) -> None:
    """What was not seen is said, and nothing is made of it."""
    found = result(judge(change(release())), number)

    assert outcome is found.outcome
    assert says in " ".join(one.message for one in found.findings)


def test_a_sort_of_token_that_was_not_tried_is_no_pass() -> None:
    """All five have to be."""
    whole = release()
    assert isinstance(whole.tokens, tuple)

    found = result(judge(whole.with_seen(tokens=whole.tokens[:-1])), 9)

    assert Outcome.INCONCLUSIVE is found.outcome
    assert "connect was not tried: wrong key" in found.findings[-1].message


def test_a_public_address_without_tls_fails() -> None:
    """Whatever a handshake elsewhere may have shown."""
    whole = release()
    plain = dataclasses.replace(whole, target=dataclasses.replace(whole.target, url="ws://realtime.example.org"))

    found = result(judge(plain), 12)

    assert Outcome.FAIL is found.outcome
    assert "ws://realtime.example.org, without TLS" in found.findings[1].message


def test_without_a_load_balancer_affinity_does_not_apply() -> None:
    """The operator says so; what files show still counts."""
    expected = dataclasses.replace(EXPECTATIONS, behind_load_balancer=False)

    assert Outcome.PASS is result(judge(without("Ingress")(release()), EXPECTATIONS), 4).outcome
    assert Outcome.NOT_APPLICABLE is result(judge(without("Ingress")(release()), expected), 4).outcome


def test_the_newest_attestation_counts() -> None:
    """Whoever attests again after a change mends it."""
    whole = release()
    assert isinstance(whole.attestations, tuple)
    old = tuple(dataclasses.replace(one, made_at=NOW - 50 * DAY, sha256="00" * 32) for one in whole.attestations)

    report = judge(whole.with_seen(attestations=(*old, *whole.attestations)))

    assert Outcome.PASS is result(report, 14).outcome


def test_attestations_of_any_length_can_be_allowed() -> None:
    """0 is no limit."""
    report = judge(_endless(release()), Expectations(roster=(ADA,), max_attestation_seconds=0))

    assert Outcome.PASS is result(report, 13).outcome


def test_a_service_monitor_on_another_path_is_none_of_ours() -> None:
    """It scrapes something else."""

    def elsewhere(content: dict[str, object]) -> None:
        content["spec"] = {**content["spec"], "endpoints": [{"port": "admin", "path": "/other"}]}  # type: ignore[dict-item]  # a mapping

    found = result(judge(edited("ServiceMonitor", elsewhere)(release())), 5)

    assert Outcome.FAIL is found.outcome


def test_everything_unseen_passes_nothing() -> None:
    """A cluster that answers nothing at all."""
    fields = (
        "scale_trial",
        "status",
        "scrape",
        "prometheus",
        "attestations",
        "documents",
        "handshakes",
        "origins",
        "tokens",
        "gauge",
        "rate",
        "tls",
        "load",
    )
    blind = release().with_seen(**dict.fromkeys(fields, Unseen("it hangs", "Wait.")))

    report = judge(blind)

    assert Outcome.INCONCLUSIVE is report.outcome
    assert {6, 7} == {one.item.number for one in report.results if one.outcome is Outcome.PASS}


def test_runbooks_of_a_site_that_is_away_are_one_finding() -> None:
    """With every page as evidence, and the reason once."""
    whole = release()
    assert isinstance(whole.documents, tuple)
    silent = tuple(dataclasses.replace(one, status=None, error="did not answer within 10 s") for one in whole.documents)

    found = result(judge(whole.with_seen(documents=silent)), 16)

    (away,) = (one for one in found.findings if one.rule == "resolve")
    assert Outcome.INCONCLUSIVE is away.outcome
    assert f"{len(away.evidence)} runbooks: did not answer within 10 s" == away.message
    assert len(away.evidence) > 1


def test_one_runbook_that_is_away_is_named() -> None:
    """It is not the site, then."""
    whole = release()
    assert isinstance(whole.documents, tuple)
    url = next(one.url for one in whole.documents if "runbooks" in one.url and one.url.endswith("memory-high"))
    documents = tuple(
        dataclasses.replace(one, status=None, error="did not answer within 10 s") if one.url == url else one
        for one in whole.documents
    )

    found = result(judge(whole.with_seen(documents=documents)), 16)

    assert f"{url}: did not answer within 10 s" in [one.message for one in found.findings]
