"""Metrics say what was counted and what the instance holds, under stable names."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.codes import Disconnects, Error, Errors, rows
from service.core.phase import Phase
from service.observability.metrics import METRICS, Metrics
from tests.support.surfaces import FixedProcess, instance_of
from tests.support.world import World


def samples(metrics: Metrics) -> dict[str, float]:
    """Return what a scrape reads: name with its labels, and value."""
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    """Nothing has been counted."""
    return Metrics(FixedProcess(memory_bytes=4096, cpu_seconds=1.5))


def test_counters_count_what_they_are_told(metrics: Metrics) -> None:
    """Every event of the observer that is counted."""
    metrics.connection_opened()
    metrics.connection_opened()
    metrics.authenticated()
    metrics.connection_closed(Disconnects.SHUTDOWN, 5.0)
    metrics.connection_closed(None, 86_401.0)
    metrics.upgrade_refused("origin")
    metrics.command("publish")
    metrics.error("publish", Errors.PERMISSION_DENIED)
    metrics.limited("messages_per_minute")
    metrics.published(100)
    metrics.published(50)
    metrics.delivered(1000, 130)
    metrics.recovered(7, success=True)
    metrics.recovered(0, success=False)
    metrics.drained(1, 5, 10)
    metrics.drained(2, 4, 6)
    metrics.failed("tick", ValueError("x"))

    found = samples(metrics)

    assert {
        "slackwater_connections_opened_total": 2,
        "slackwater_connections_authenticated_total": 1,
        "slackwater_connections_closed_total[3001]": 1,
        "slackwater_connections_closed_total[none]": 1,
        "slackwater_connection_age_seconds_count": 2,
        "slackwater_connection_age_seconds_sum": 86_406.0,
        "slackwater_upgrades_refused_total[origin]": 1,
        "slackwater_commands_total[publish]": 1,
        "slackwater_errors_total[103]": 1,
        "slackwater_limited_total[messages_per_minute]": 1,
        "slackwater_publications_total": 2,
        "slackwater_publication_bytes_total": 150,
        "slackwater_deliveries_total": 1000,
        "slackwater_frames_built_total": 1,
        "slackwater_recoveries_total[recovered]": 1,
        "slackwater_recoveries_total[unrecovered]": 1,
        "slackwater_recovered_publications_total": 7,
        "slackwater_drain_batches_total": 2,
        "slackwater_drain_closes_total": 9,
        "slackwater_failures_total[tick]": 1,
        "slackwater_process_resident_memory_bytes": 4096,
        "slackwater_process_cpu_seconds_total": 1.5,
    }.items() <= found.items()


def test_known_labels_start_at_zero(metrics: Metrics) -> None:
    """Otherwise the first event of a kind would not show as a rise."""
    found = samples(metrics)

    for _, row in (*rows(Disconnects), *rows(Errors)):
        name = "errors" if isinstance(row, Error) else "connections_closed"
        assert 0 == found[f"slackwater_{name}_total[{row.code}]"]
    assert 0 == found["slackwater_commands_total[sub_refresh]"]


def test_a_code_of_a_back_end_is_counted_too(metrics: Metrics) -> None:
    """The server API may close a connection with a code of its own."""
    metrics.error("rpc", Error(1000, "of the application"))

    assert 1 == samples(metrics)["slackwater_errors_total[1000]"]


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "1.0"), (1.0, "1.0"), (1.1, "10.0"), (86_400.0, "86400.0"), (86_401.0, "+Inf")]
)
def test_ages_fall_into_their_bucket(metrics: Metrics, seconds: float, bucket: str) -> None:
    """And count in every larger one."""
    metrics.connection_closed(None, seconds)

    counts = {
        name[len("slackwater_connection_age_seconds_bucket[") : -1]: value
        for name, value in samples(metrics).items()
        if name.startswith("slackwater_connection_age_seconds_bucket")
    }

    assert bucket == next(bound for bound, count in counts.items() if count)
    assert 1 == counts["+Inf"]


def test_gauges_are_read_from_the_instance(metrics: Metrics) -> None:
    """As it stands when it is scraped."""
    world = World()
    metrics.watch(instance_of(world))
    for user in ("42", "42", "probe:x"):
        client = world.connected(user)
        client.subscribe("chat:lobby")
    world.client()
    world.lifecycle.gate(60, "for a test")
    world.clock.advance(90)

    found = samples(metrics)

    assert {
        "slackwater_connections": 4,
        "slackwater_connections_unauthenticated": 1,
        "slackwater_connections_probe": 1,
        "slackwater_connections_limit": 1000,
        "slackwater_users": 2,
        "slackwater_rooms": 1,
        "slackwater_subscriptions": 3,
        "slackwater_phase[GATED]": 1,
        "slackwater_phase[ACTIVE]": 0,
        "slackwater_info[1.2.3]": 1,
        "slackwater_uptime_seconds": 90,
    }.items() <= found.items()
    assert len(Phase) == sum(name.startswith("slackwater_phase[") for name in found)


def test_gauges_wait_for_an_instance(metrics: Metrics) -> None:
    """A scrape during the start is answered with what there is."""
    found = samples(metrics)

    assert "slackwater_connections" not in found
    assert 0 == found["slackwater_publications_total"]


def test_every_description_is_exposed(metrics: Metrics) -> None:
    """Each metric of the table has its words and its samples."""
    metrics.watch(instance_of(World()))
    text = metrics.exposition().decode()

    for description in METRICS:
        assert f"# HELP {description.exposed_name} {description.help}" in text
        assert f"# TYPE {description.exposed_name} {description.kind}" in text


def test_names_follow_one_rule() -> None:
    """Ours by the prefix, in base units, each only once."""
    names = [description.name for description in METRICS]

    assert all(re.fullmatch(r"slackwater_[a-z]+(_[a-z]+)*", name) for name in names)
    assert sorted(set(names)) == sorted(names)
    assert {"", "code", "reason", "method", "limit", "result", "where", "phase", "version", "event"} == {
        description.label for description in METRICS
    }


def test_two_instances_do_not_share_numbers() -> None:
    """Each has a registry of its own."""
    first, second = Metrics(FixedProcess()), Metrics(FixedProcess())

    first.published(1)

    assert 0 == samples(second)["slackwater_publications_total"]


def test_the_outbox_tells_what_it_holds() -> None:
    """Gauges show what was seen last; rows and events are counted."""
    metrics = Metrics(FixedProcess())
    metrics.outbox_relayed(3)
    metrics.outbox_seen(2, 1.5, 1)
    metrics.outbox_seen(5, 2.5, 0)
    metrics.noted("outbox.set_aside", row=1, reason="unknown channel")
    found = samples(metrics)

    assert (3, 5, 2.5, 0) == (
        found["slackwater_outbox_published_total"],
        found["slackwater_outbox_waiting"],
        found["slackwater_outbox_oldest_seconds"],
        found["slackwater_outbox_set_aside"],
    )
    assert 1 == found["slackwater_events_total[outbox.set_aside]"]
    assert 0 == found["slackwater_events_total[database.unsettled]"]
