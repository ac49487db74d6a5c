from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.model.expectations import LoadThresholds
from deploytool.model.observations import LoadReport, OriginKind, Status
from deploytool.probes.address import Address, parse_address
from deploytool.probes.budget import allowance
from deploytool.probes.errors import AddressError, ProbeError, explain
from deploytool.probes.handshakes import origins_to_try
from deploytool.probes.load import LoadPlan, LoadResult, Second, percentile, plan_load
from deploytool.probes.load_files import as_page, read_report, write_report

_REPORT = LoadReport("load test", 1_800_000_000.0, "sha256:1", 50, 100, 2500, 0, 0, 10.0, 0.004, 0.01)
_RESULT = LoadResult(_REPORT, LoadPlan(2, 50, 100, 10.0), (Second(10, 250, 0.004, 0.01), Second(0, 0, 0.0, 0.0)))


def status(connections: int = 0, phase: str = "ACTIVE", **limits: float) -> Status:
    """Return the status of a service."""
    return Status("x", 0.0, "i", phase, connections, limits={"max_connections": 1000, **limits})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://a.example.org", Address("a.example.org", 443, is_tls=True)),
        ("https://a.example.org/", Address("a.example.org", 443, is_tls=True)),
        ("ws://a:3000/ws", Address("a", 3000, is_tls=False, path="/ws")),
        ("wss://[::1]:8443", Address("::1", 8443, is_tls=True)),
    ],
)
def test_address_is_taken_apart(url: str, expected: Address) -> None:
    """Ports and the path have defaults."""
    assert expected == parse_address(url)


def test_url_is_as_clients_have_it() -> None:
    """Without a port that the scheme says."""
    assert "wss://a/connection/websocket" == parse_address("https://a").url
    assert "ws://[::1]:81/ws" == parse_address("ws://[::1]:81/ws").url


def test_other_place_to_connect_to_keeps_the_name() -> None:
    """As before a change of DNS."""
    address = parse_address("wss://a.example.org", connect_to="127.0.0.1:8443")

    assert (("127.0.0.1", 8443), "a.example.org") == (address.target, address.host)


@pytest.mark.parametrize(
    "url", ["", "a.example.org", "ftp://a", "wss://", "wss://a:99999", "wss://u:p@a", "wss://a?t=1"]
)
def test_odd_address_is_a_usage_error(url: str) -> None:
    """With a sentence, and no password in it."""
    with pytest.raises(AddressError) as caught:
        parse_address(url)

    assert 2 == caught.value.exit_code
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("connect_to", ["a", "a:", ":1", "a:99999"])
def test_odd_place_to_connect_to_is_a_usage_error(connect_to: str) -> None:
    """As the address itself."""
    with pytest.raises(AddressError):
        parse_address("wss://a", connect_to=connect_to)


def test_certificates_that_are_none_are_a_usage_error(tmp_path: Path) -> None:
    """Absent, or something else."""
    other = tmp_path / "x.pem"
    other.write_text("hello")
    for path in (str(tmp_path / "nowhere"), str(other)):
        with pytest.raises(AddressError, match="cannot be used"):
            parse_address("wss://a", ca_file=path).context()


def test_probes_take_a_tenth() -> None:
    """Of what the service allows, and no more."""
    assert 100 == allowance(status())
    assert 100 == allowance(status(800))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(status(801), "801 of 1000 connections open", id="no room"),
        pytest.param(status(phase="GATED"), "is GATED", id="gated"),
        pytest.param(status(phase="DRAINING"), "is DRAINING", id="draining"),
        pytest.param(status(max_connections=9), "a tenth of that is not one", id="tiny"),
    ],
)
def test_probes_refuse_where_they_would_be_felt(seen: Status, words: str) -> None:
    """Without twice that room, or in another phase."""
    with pytest.raises(ProbeError, match=words):
        allowance(seen)


def test_limit_of_an_address_is_respected() -> None:
    """Others may sit behind the same one."""
    assert 10 == allowance(status(max_connections_per_address=20))


@given(
    cap=st.integers(1, 5000),
    connections=st.integers(0, 5000),
    wanted=st.integers(1, 2000),
    publications=st.integers(1, 5000),
    a_minute=st.integers(0, 500),
    for_user=st.integers(0, 50),
)
def test_load_test_never_exceeds_its_bounds(
    cap: int, connections: int, wanted: int, publications: int, a_minute: int, for_user: int
) -> None:
    """Whatever the thresholds ask for."""
    limits: dict[str, float] = {
        "max_connections": cap,
        "messages_per_minute": a_minute,
        "max_connections_per_user": for_user,
    }
    try:
        most = allowance(Status("x", 0.0, "i", "ACTIVE", connections, limits=limits))
    except ProbeError:
        return
    plan = plan_load(most, limits, LoadThresholds(connections=wanted, publications=publications))

    assert 1 <= plan.users <= plan.connections <= cap // 10
    assert connections + 2 * plan.connections <= cap
    assert plan.publications <= max(plan.users, plan.users * a_minute if a_minute else plan.users * 100)


def test_load_test_is_as_large_as_the_thresholds() -> None:
    """With as many users as their own limits ask for."""
    plan = plan_load(100, {"messages_per_minute": 100}, LoadThresholds(connections=50, publications=200))

    assert LoadPlan(users=3, connections=50, publications=200, seconds=10.0) == plan


def test_percentiles_are_values_that_were_seen() -> None:
    """No value is made up between two."""
    values = [float(one) for one in range(1, 101)]

    assert (50.0, 99.0, 100.0) == (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0))
    assert (7.0, 0.0) == (percentile([7.0], 0.5), percentile([], 0.99))


def test_origins_that_look_alike_are_tried() -> None:
    """Something before, something after, and http in the place of https; never one that is allowed."""
    allowed = ["https://app.example.org", "http://app.example.org"]
    tried = list(origins_to_try(allowed))

    assert (OriginKind.SUFFIX, "https://app.example.org.evil.example") in tried
    assert (OriginKind.SUFFIX, "https://evil-app.example.org") in tried
    assert (OriginKind.NULL, "null") in tried
    assert not [one for kind, one in tried if kind is OriginKind.INSECURE]
    assert len(tried) == len({one for _, one in tried})


def test_insecure_origin_is_tried_where_it_is_not_allowed() -> None:
    """The commonest slip."""
    assert (OriginKind.INSECURE, "http://a.example.org:8443") in list(origins_to_try(["https://a.example.org:8443"]))


def test_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Apart from where it came from."""
    data, page = write_report(tmp_path / "deep" / "er", _RESULT)

    read = read_report(data)

    assert (_REPORT.at, _REPORT.p99_seconds, str(data)) == (read.at, read.p99_seconds, read.source)
    assert page.exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "3", '{"format": 2}', '{"format": 1, "report": {"a": 1}}', "[" * 100_000]
)
def test_file_that_is_no_report_is_a_sentence(tmp_path: Path, text: str) -> None:
    """And no traceback."""
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(ProbeError, match="is no load report"):
        read_report(path)


def test_absent_report_is_a_sentence(tmp_path: Path) -> None:
    """With the reason of the operating system."""
    with pytest.raises(ProbeError, match="cannot be read"):
        read_report(tmp_path / "nowhere")


def test_page_needs_nothing_else() -> None:
    """No script, and nothing is fetched; what comes from outside is escaped."""
    page = as_page(LoadResult(replace(_REPORT, source="<b>"), _RESULT.plan, _RESULT.seconds))

    assert "&lt;b&gt;" in page
    assert "<script" not in page
    assert "http" not in page
    assert 2 == page.count("<svg")
    assert "2500, 0 lost" in page


def test_page_of_nothing_is_one_too() -> None:
    """As after a test in which nothing arrived."""
    assert "<svg" in as_page(LoadResult(_REPORT, _RESULT.plan, ()))


def _unbelieved() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "--connect-to HOST:PORT"),
        (ConnectionRefusedError(), "--connect-to HOST:PORT"),
        (TimeoutError(), "--connect-to HOST:PORT"),
        (_unbelieved(), "--ca-file FILE"),
    ],
)
def test_address_that_leads_nowhere_says_what_to_name(error: OSError, says: str) -> None:
    """Else an item would tell to mend what it was going to look at."""
    assert says in explain(error, "wss://a").remediation
