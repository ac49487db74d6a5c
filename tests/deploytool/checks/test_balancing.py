"""What the checks say of nginx configurations and of what else stands before the one instance."""

from __future__ import annotations

import textwrap

import pytest

from deploytool import manifests
from deploytool.checks import catalog, evaluation
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Finding, Outcome, Report
from deploytool.model.snapshot import Snapshot

GOOD = """
    upstream realtime {
        server 10.0.0.4:3000;
    }
    server {
        listen 443 ssl;
        location /ws {
            proxy_pass http://realtime;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 1h;
        }
    }
"""
SEED = """
    upstream app_servers {
        server app:3000;
    }
    server {
        location /ws {
            proxy_pass http://app_servers;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            ip_hash; # in the wrong place
        }
    }
"""


def read(text: str) -> Snapshot:
    """Read a configuration."""
    return manifests.parse("site.conf", textwrap.dedent(text).encode())


def judge(snapshot: Snapshot) -> Report:
    """Judge it by the whole checklist."""
    return evaluation.evaluate(snapshot, Expectations(), catalog.ITEMS)


def affinity(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Return what item 4 finds, what is in order left out."""
    (found,) = evaluation.evaluate(snapshot, Expectations(), catalog.find("session-affinity")).results
    return tuple(one for one in found.findings if one.outcome not in {Outcome.PASS, Outcome.NOT_APPLICABLE})


def test_a_correct_configuration_has_no_finding() -> None:
    """Nothing to say, and nothing that only a workload could answer is asked."""
    report = judge(read(GOOD))

    assert Outcome.PASS is report.outcome
    assert {Outcome.PASS, Outcome.NOT_APPLICABLE} == {one.outcome for one in report.results}


@pytest.mark.parametrize(
    ("before", "after", "rule", "outcome", "line"),
    [
        pytest.param(
            "server 10.0.0.4:3000;", "server a:1;\n server b:1;", "upstream", Outcome.FAIL, 3, id="several servers"
        ),
        pytest.param(
            "server 10.0.0.4:3000;", "least_conn; server a:1; server b:1;", "upstream", Outcome.FAIL, 3, id="least_conn"
        ),
        pytest.param(
            "server 10.0.0.4:3000;", "ip_hash; server a:1; server b:1;", "upstream", Outcome.WARN, 3, id="with affinity"
        ),
        pytest.param("proxy_set_header Upgrade $http_upgrade;", "", "upgrade", Outcome.FAIL, 7, id="without Upgrade"),
        pytest.param('proxy_set_header Connection "upgrade";', "", "upgrade", Outcome.FAIL, 7, id="without Connection"),
        pytest.param(
            'proxy_set_header Connection "upgrade";',
            "proxy_set_header Connection close;",
            "upgrade",
            Outcome.FAIL,
            7,
            id="Connection: close",
        ),
        pytest.param("proxy_http_version 1.1;", "", "http-version", Outcome.FAIL, 7, id="no version"),
        pytest.param("proxy_http_version 1.1;", "proxy_http_version 1.0;", "http-version", Outcome.FAIL, 9, id="1.0"),
        pytest.param("proxy_read_timeout 1h;", "proxy_read_timeout 20s;", "read-timeout", Outcome.FAIL, 12, id="20 s"),
        pytest.param("proxy_read_timeout 1h;", "proxy_read_timeout 30;", "read-timeout", Outcome.FAIL, 12, id="30 s"),
        pytest.param("proxy_read_timeout 1h;", "proxy_read_timeout 500ms;", "read-timeout", Outcome.FAIL, 12, id="ms"),
        pytest.param(
            "proxy_read_timeout 1h;",
            "proxy_read_timeout $idle;",
            "read-timeout",
            Outcome.INCONCLUSIVE,
            12,
            id="variable",
        ),
        pytest.param("listen 443 ssl;", "ip_hash;", "ip-hash", Outcome.FAIL, 6, id="ip_hash in a server"),
    ],
)
def test_each_mistake_is_found_with_its_line(  # a case has five parts
    before: str, after: str, rule: str, outcome: Outcome, line: int
) -> None:
    """Exactly one thing is wrong, and the evidence says where."""
    (found, *others) = affinity(read(GOOD.replace(before, after)))

    assert not others
    assert (rule, outcome) == (found.rule, found.outcome)
    assert line == found.evidence[0].line
    assert "site.conf" == found.evidence[0].source


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("server 10.0.0.4:3000;", "server a:1; server b:1 backup;", id="a backup"),
        pytest.param("server 10.0.0.4:3000;", "server a:1; server b:1 down;", id="one that is down"),
        pytest.param("proxy_read_timeout 1h;", "", id="nginx's default of 60 s"),
        pytest.param("proxy_read_timeout 1h;", "proxy_read_timeout 1m30s;", id="a compound duration"),
        pytest.param("http://realtime", "http://127.0.0.1:3000", id="no upstream"),
        pytest.param("http://realtime", "http://unix:/run/slackwater.sock", id="a socket"),
        pytest.param("location /ws", "location /", id="all paths"),
        pytest.param("location /ws", "location = /ws", id="exactly that path"),
        pytest.param("location /ws", "location ~* ^/WS", id="a pattern without case"),
        pytest.param("location /ws", "location ~ (a+)+", id="a pattern that is not judged"),
        pytest.param("location /ws", "location ^~ /connection/", id="the protocol's own path"),
        pytest.param("location /ws", "location ~ ^/(ws|connection)", id="a pattern"),
        pytest.param('"upgrade"', "$connection_upgrade", id="a mapped Connection"),
    ],
)
def test_correct_variants_have_no_finding(before: str, after: str) -> None:
    """Many ways to write it down are right."""
    assert () == affinity(read(GOOD.replace(before, after)))


def test_what_other_locations_do_is_their_business() -> None:
    """HTTP may be spread, as long as WebSockets are not."""
    other = "upstream api { server a:1; server b:1; } server { location /api/ { proxy_pass http://api; } }"

    assert () == affinity(read(GOOD + other))


def test_a_location_leaves_what_a_closer_one_takes() -> None:
    """``/`` does not carry the WebSockets when ``/ws`` and the protocol's path are both taken away from it."""
    rest = "location / { proxy_pass http://other; } location /connection/ { return 404; } location /ws {"

    assert () == affinity(read(GOOD.replace("location /ws {", rest)))


def test_headers_are_inherited_as_nginx_does() -> None:
    """All of those of the server, unless the location has one of its own."""
    text = GOOD.replace("listen 443 ssl;", "listen 443 ssl; proxy_set_header Upgrade $http_upgrade;")

    assert () == affinity(read(text))
    inherited = text.replace("proxy_set_header Upgrade $http_upgrade;\n", "")
    assert ["upgrade"] == [one.rule for one in affinity(read(inherited))]


def test_an_ingress_without_timeouts_keeps_the_default() -> None:
    """60 s, which is longer than the time between pings."""
    assert () == affinity(manifests.parse("web.yaml", b"{kind: Ingress, metadata: {name: web}}"))


def test_a_server_with_two_locations_is_one_server() -> None:
    """Its TLS is judged once."""
    text = GOOD.replace("location /ws {", "location /connection/ { proxy_pass http://x; } location /ws {")
    (found,) = evaluation.evaluate(read(text), Expectations(), catalog.find("tls")).results

    assert 1 == sum("takes WebSockets" in one.message for one in found.findings)


def test_what_an_unread_file_may_hold_is_not_guessed() -> None:
    """Headers often stand in an included file."""
    text = GOOD.replace("proxy_set_header Upgrade $http_upgrade;", "include /etc/nginx/proxy_params;").replace(
        "proxy_http_version 1.1;", ""
    )

    found = affinity(read(text))

    assert {Outcome.INCONCLUSIVE} == {one.outcome for one in found}
    assert {"upgrade", "http-version"} == {one.rule for one in found}


def test_ip_hash_in_a_location_is_found() -> None:
    """It does not start with it, though guides show it there."""
    (found,) = affinity(read(SEED))

    assert ("ip-hash", 11) == (found.rule, found.evidence[0].line)
    assert "stands in location, where nginx refuses it" in found.message


def test_timeouts_follow_the_ping_interval_of_the_service() -> None:
    """A service that pings each 90 s needs more than nginx's default."""
    text = "services: {web: {environment: {WS_PING_INTERVAL: 90000, FRONTEND_URL: 'https://a.example.org'}}}"
    reading = manifests.Reading()
    reading.add_documents("compose.yaml", text.encode())
    reading.add_proxy("site.conf", GOOD.replace("proxy_read_timeout 1h;", "").encode())

    (found,) = affinity(reading.snapshot(["."], 0.0))

    assert "proxy_read_timeout is 60 s, not longer than the 90 s between pings" in found.message


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        pytest.param("listen 443 ssl;", "listen 80;", Outcome.WARN, id="without TLS"),
        pytest.param("listen 443 ssl;", "listen 443 ssl; ssl_protocols TLSv1 TLSv1.2;", Outcome.FAIL, id="old TLS"),
        pytest.param(
            "listen 443 ssl;", "listen 443 ssl; ssl_protocols TLSv1.2 TLSv1.3;", Outcome.NOT_APPLICABLE, id="new"
        ),
    ],
)
def test_tls_is_judged_where_websockets_come_in(before: str, after: str, outcome: Outcome) -> None:
    """Item 12 looks at the same servers."""
    (found,) = evaluation.evaluate(read(GOOD.replace(before, after)), Expectations(), catalog.find("tls")).results

    assert outcome is found.outcome
