"""What people have vouched for, and what they point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks.alerts import alerts
from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import ours
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import DocumentTrial, Unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.observations import Attestation, RolloutRecord
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)

_TRAINED = "documentation.team-trained"
_DEPLOYMENT = "documentation.deployment-procedure"
_ROLLBACK = "documentation.rollback-procedure"
_RUNBOOKS = "documentation.runbooks"
_DAY = 86_400.0
_SKEW_DAYS = 1.0
_POLICY_SUFFIX = ".attestations"


def _of(snapshot: Snapshot, item: str) -> tuple[Attestation, ...] | Observation:
    """Return the attestations of an item, newest first."""
    if isinstance(snapshot.attestations, Unseen):
        return unknown("who has vouched for it", snapshot.attestations)
    found = [one for one in snapshot.attestations if one.item == item]
    return tuple(sorted(found, key=lambda one: one.made_at, reverse=True))


def _evidence(one: Attestation, field: str, seen: str | float | None) -> tuple[Evidence, ...]:
    return (Evidence(one.source, field, seen, at=one.at),)


def _none() -> tuple[Evidence, ...]:
    return (Evidence("attestations", "newest", None),)


def _validity(one: Attestation, snapshot: Snapshot) -> Observation:
    left = (one.expires_at - snapshot.at) / _DAY
    evidence = _evidence(one, f"{one.name} expires in days", round(left, 1))
    if left <= 0:
        return Observation(Verdict.VIOLATED, one.who, "the attestation has expired", evidence)
    return Observation(Verdict.SATISFIED, one.who, f"has attested, for {left:.0f} more days", evidence)


def _length(one: Attestation, expectations: Expectations) -> Iterator[Observation]:
    most = expectations.max_attestation_seconds
    if most and one.expires_at - one.made_at > most:
        days = (one.expires_at - one.made_at) / _DAY
        message = f"is valid for {days:.0f} days, more than {most / _DAY:.0f}"
        yield Observation(Verdict.DOUBTFUL, one.who, message, _evidence(one, f"{one.name} valid for days", round(days)))


def _trained(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    found = _of(snapshot, _TRAINED)
    if isinstance(found, Observation):
        yield found
        return
    if not expectations.roster:
        message = "nobody said who belongs to the operations team"
        way_out = "List the team under roster in deploytool.yaml, by user name as `kubectl auth whoami` shows it."
        yield Observation(Verdict.UNKNOWN, "", message, remediation=way_out)
        return
    for person in expectations.roster:
        one = next((one for one in found if one.who == person), None)
        if one is None:
            yield Observation(Verdict.VIOLATED, person, "has not attested to be trained", _none())
        else:
            yield _validity(one, snapshot)
            yield from _length(one, expectations)


def _attested(item: str) -> Callable[[Snapshot, Expectations], Iterator[Observation]]:
    def run(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
        found = _of(snapshot, item)
        if isinstance(found, Observation):
            yield found
        elif not found:
            yield Observation(Verdict.VIOLATED, "", "nobody has attested to it", _none())
        else:
            yield _validity(found[0], snapshot)
            yield from _length(found[0], expectations)

    return run


def _unchanged(item: str) -> Callable[[Snapshot, Expectations], Iterator[Observation]]:
    def run(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
        found = _of(snapshot, item)
        if isinstance(found, Observation) or not found:
            return
        one = found[0]
        if not one.url or not one.sha256:
            yield Observation(
                Verdict.VIOLATED, one.who, "names no document", _evidence(one, f"{one.name} url", one.url)
            )
            return
        trial = _fetched(snapshot, one.url)
        yield trial if isinstance(trial, Observation) else _compared(one, trial)

    return run


def _fetched(snapshot: Snapshot, url: str) -> DocumentTrial | Observation:
    if isinstance(snapshot.documents, Unseen):
        return unknown(f"the document {url}", snapshot.documents)
    found = next((one for one in snapshot.documents if one.url == url), None)
    if found is None:
        return Observation(Verdict.UNKNOWN, "", f"{url} was not fetched")
    if found.status is None:
        return Observation(Verdict.UNKNOWN, "", f"{url}: {found.error}", (_page(found),))
    return found


def _page(trial: DocumentTrial) -> Evidence:
    shown = f"HTTP {trial.status}" if trial.status is not None else "no answer"
    return Evidence(trial.url, "GET", shown, at=trial.at)


def _compared(one: Attestation, trial: DocumentTrial) -> Observation:
    if not trial.resolves:
        message = f"the document is gone: {trial.url} answers {trial.status}"
        return Observation(Verdict.VIOLATED, one.who, message, (_page(trial),))
    evidence = (Evidence(trial.url, "sha256", trial.sha256, at=trial.at), *_evidence(one, "sha256", one.sha256))
    if trial.sha256 != one.sha256:
        message = f"{trial.url} has changed since {one.who} attested to it"
        return Observation(Verdict.VIOLATED, one.who, message, evidence)
    return Observation(Verdict.SATISFIED, one.who, f"{trial.url} is as it was attested", evidence)


def _drilled(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    attested = _of(snapshot, _ROLLBACK)
    if isinstance(attested, Observation):
        return
    practised = [*_attested_drills(attested, snapshot, expectations)]
    if not isinstance(snapshot.rollouts, Unseen):
        practised += _recorded(snapshot.rollouts, snapshot, expectations)
    lately = [one for one in practised if one[1].verdict is Verdict.SATISFIED]
    if not lately and isinstance(snapshot.rollouts, Unseen):
        yield unknown("whether a rollout went back lately", snapshot.rollouts)
    elif practised:
        # The newest that counts; the newest of all when none does.
        yield max(lately or practised, key=lambda pair: pair[0])[1]
    else:
        yield Observation(Verdict.VIOLATED, "", "no rollback drill is on record", _none())


def _attested_drills(
    attested: Iterable[Attestation], snapshot: Snapshot, expectations: Expectations
) -> Iterator[tuple[float, Observation]]:
    for one in attested:
        if one.drill is not None:
            days, most = (snapshot.at - one.drill.at) / _DAY, expectations.drill_max_age_seconds / _DAY
            message = f"the last rollback drill ({one.drill.reference}) was {days:.0f} days ago, of {most:.0f} allowed"
            evidence = _evidence(one, "drill", one.drill.reference)
            yield one.drill.at, Observation(verdict(0 <= days <= most), one.who, message, evidence)


def _recorded(
    rollouts: Iterable[RolloutRecord], snapshot: Snapshot, expectations: Expectations
) -> Iterator[tuple[float, Observation]]:
    """Yield what is on record of rollouts that went back from the new image to the old one."""
    for one in rollouts:
        if one.was_switched and one.was_rolled_back:
            days, most = (snapshot.at - one.ended_at) / _DAY, expectations.drill_max_age_seconds / _DAY
            kind = "a drill" if one.is_drill else "in earnest"
            images = f"{one.new} -> {one.old}"
            message = (
                f"the last rollback (rollout {one.rollout}, {kind}: {images}) was {max(days, 0.0):.0f} days ago, "
                f"of {most:.0f} allowed"
            )
            evidence = (Evidence(one.source, "rolled back", f"{images}, {kind}, by {one.who}", at=one.ended_at),)
            # By the API server's clock, which need not agree with ours.
            yield one.ended_at, Observation(verdict(-_SKEW_DAYS <= days <= most), one.who, message, evidence)


def _authorship(item: str) -> Callable[[Snapshot, Expectations], Iterator[Observation]]:
    def run(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
        found = _of(snapshot, item)
        if isinstance(found, Observation) or not found:
            return
        newest = {one.who: one for one in reversed(found)}
        for one in newest.values():
            if one.is_shared:
                message = "stands for several people, so it is not known who attested"
                yield Observation(Verdict.DOUBTFUL, one.who, message, _evidence(one, "who", one.who))
        yield _enforced(snapshot)

    return run


def _enforced(snapshot: Snapshot) -> Observation:
    bound = {
        binding.child("spec").text("policyName"): binding
        for binding in snapshot.of_kind("ValidatingAdmissionPolicyBinding")
        if "Deny" in binding.child("spec").texts("validationActions")
    }
    for policy in snapshot.of_kind("ValidatingAdmissionPolicy"):
        if policy.name.endswith(_POLICY_SUFFIX) and policy.name in bound:
            evidence = (Evidence(policy.place.source, "metadata.name", policy.name, at=policy.place.at),)
            return Observation(Verdict.SATISFIED, policy.subject, "refuses attestations in another's name", evidence)
    unseen = snapshot.unread.get("ValidatingAdmissionPolicy") or snapshot.unread.get("ValidatingAdmissionPolicyBinding")
    if unseen is not None:
        message = f"whether authorship is enforced was not seen: {unseen.why}"
        return Observation(Verdict.DOUBTFUL, "", message, remediation=unseen.way_out)
    evidence = (Evidence("validatingadmissionpolicies", _POLICY_SUFFIX, None),)
    message = "authorship is not enforced: no admission policy refuses an attestation in another's name"
    return Observation(Verdict.DOUBTFUL, "", message, evidence)


def _named(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    if not any(True for _one in ours(snapshot)):
        return
    for alert in alerts(snapshot):
        if not alert.runbook:
            yield Observation(Verdict.VIOLATED, alert.name, "has no runbook_url", (alert.evidence,))
        elif not alert.runbook.startswith(("https://", "http://")):
            message = f"its runbook_url is no address: {alert.runbook}"
            yield Observation(Verdict.VIOLATED, alert.name, message, (alert.evidence,))
        else:
            yield Observation(Verdict.SATISFIED, alert.name, f"names {alert.runbook}", (alert.evidence,))


def _resolving(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    urls = sorted({alert.runbook for alert in alerts(snapshot) if alert.runbook})
    if urls and isinstance(snapshot.documents, Unseen):
        yield unknown("where the runbook_urls lead", snapshot.documents)
        return
    silent: dict[str, list[Observation]] = {}
    for url in urls:
        trial = _fetched(snapshot, url)
        if isinstance(trial, DocumentTrial):
            message = f"{url} answers {trial.status}"
            yield Observation(verdict(trial.resolves), "", message, (_page(trial),))
        else:
            silent.setdefault(trial.message.removeprefix(url), []).append(trial)
    # The same is said once: most often a whole site is away, and not a page of it.
    for why, trials in silent.items():
        evidence = tuple(one for trial in trials for one in trial.evidence)
        message = trials[0].message if len(trials) == 1 else f"{len(trials)} runbooks{why}"
        yield Observation(Verdict.UNKNOWN, "", message, evidence)


_ATTEST = "`deploytool attest {item} --namespace {namespace} --workload {workload} --expires 180d"
_SEEN = frozenset({"objects", "attestations"})
_WITH_DOCUMENTS = _SEEN | {"documents"}


def _document_rules(item: str) -> tuple[Rule, ...]:
    again = f"Read it, then attest: {_ATTEST} --url URL`."
    return (
        Rule("attested", Depth.LIVE, Severity.ERROR, "somebody has attested to it", again, _attested(item)),
        Rule(
            "unchanged",
            Depth.LIVE,
            Severity.ERROR,
            "the document is there, and is the one that was attested",
            again,
            _unchanged(item),
        ),
    )


def _authorship_rule(item: str) -> Rule:
    return Rule(
        "authorship",
        Depth.LIVE,
        Severity.WARNING,
        "the API server vouches for who attested",
        "Install the chart's policy (`helm upgrade {release} helm/slackwater --namespace {namespace} --reuse-values "
        "--set admissionPolicy.enabled=true`), and attest as a person, not as a service account or system:masters.",
        _authorship(item),
    )


ITEMS = (
    Item(
        number=13,
        id=_TRAINED,
        category=Category.DOCUMENTATION,
        title="operations team trained on single-instance constraint",
        knows="An attestation in date by each person of the roster.",
        needs=_SEEN,
        passes_from=Depth.LIVE,
        rules=(
            Rule(
                "attested",
                Depth.LIVE,
                Severity.ERROR,
                "everybody of the roster has attested",
                f"Each person, after reading docs/explanation/one-replica.md: {_ATTEST}`.",
                _trained,
            ),
            _authorship_rule(_TRAINED),
        ),
    ),
    Item(
        number=14,
        id=_DEPLOYMENT,
        category=Category.DOCUMENTATION,
        title="deployment procedures documented",
        knows="An attestation in date that names a document; its sha256 is that of the document now.",
        needs=_WITH_DOCUMENTS,
        passes_from=Depth.LIVE,
        rules=(*_document_rules(_DEPLOYMENT), _authorship_rule(_DEPLOYMENT)),
    ),
    Item(
        number=15,
        id=_ROLLBACK,
        category=Category.DOCUMENTATION,
        title="rollback procedures defined",
        knows="As for the deployment procedure, and a rollback on record: that of a rollout that went back from its "
        "new image, as a drill or because it had to, or a drill that somebody has attested to.",
        needs=_WITH_DOCUMENTS | {"rollouts"},
        passes_from=Depth.LIVE,
        rules=(
            *_document_rules(_ROLLBACK),
            Rule(
                "drill",
                Depth.LIVE,
                Severity.ERROR,
                "a rollback was practised lately",
                "Practise one: `deploytool rollout run --drill --namespace {namespace} --workload {workload} --image "
                "IMAGE` goes back on purpose, and is on record then. One that was practised otherwise is attested to: "
                f"{_ATTEST} --url URL --drill-at TIME --drill-reference URL`.",
                _drilled,
            ),
            _authorship_rule(_ROLLBACK),
        ),
    ),
    Item(
        number=16,
        id=_RUNBOOKS,
        category=Category.DOCUMENTATION,
        title="monitoring runbooks created",
        knows="As for the deployment procedure, and the runbook_url of every alert leads to a page that is there.",
        needs=_WITH_DOCUMENTS | {"prometheus"},
        passes_from=Depth.LIVE,
        rules=(
            Rule(
                "named",
                Depth.OFFLINE,
                Severity.ERROR,
                "every alert names a runbook",
                "Publish docs/runbooks and name the place: `helm upgrade {release} helm/slackwater --namespace "
                "{namespace} --reuse-values --set monitoring.runbookBaseUrl=https://YOUR-DOCS/runbooks`.",
                _named,
            ),
            Rule(
                "resolve",
                Depth.LIVE,
                Severity.ERROR,
                "every runbook is there",
                "Publish the page, or correct monitoring.runbookBaseUrl and monitoring.runbookSuffix of the chart.",
                _resolving,
            ),
            *_document_rules(_RUNBOOKS),
            _authorship_rule(_RUNBOOKS),
        ),
    ),
)
