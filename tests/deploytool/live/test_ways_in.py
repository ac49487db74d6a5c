"""The other ways by which a rollout reaches a service, and what it says when it has none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.deploytool.live.release import HOST
from tests.deploytool.live.rollouts import NAME, Live, events
from tests.support.edge import certificate, odd_server, tls_front

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

_CLIENTS = 50
_GOING = ("--no-check", "--no-trial", "--settle", "1s", "-o", "json")


@contextmanager
def _front(live: Live) -> Iterator[tuple[str, ...]]:
    """End TLS in front of the service; yields the arguments that lead there."""
    certified = certificate(HOST)
    host, _, port = live.address.rpartition(":")
    with tls_front(host, int(port), certified) as front:
        authority = certified.write(live.folder)
        yield "--url", f"wss://{HOST}", "--connect-to", f"127.0.0.1:{front}", "--ca-file", authority


def _forget_admin(live: Live) -> None:
    """Leave the workload as one that says nothing of an admin API."""
    live.kubectl("annotate", "deployment", NAME, "slackwater.dev/admin-service-")


def _is_untouched(live: Live) -> bool:
    """Tell whether nobody has begun anything: the image is the old one, and there was never a lock."""
    return live.image() == live.target.image and not live.kubectl("get", "leases", "-o", "name")


def _said(done: subprocess.CompletedProcess[str], phase: str) -> str:
    (found,) = [one["text"] for one in events(done) if one["phase"] == phase and one["kind"] == "done"]
    return str(found)


def test_admin_address_and_tls_lead_there_too(live: Live) -> None:
    """The admin API by its address, clients by TLS; a certificate that nobody vouches for is named before anything."""
    admin = live.cluster.address(live.target.namespace, f"{NAME}-admin", 3001)
    run = ("rollout", "run", "--image", live.target.other_image, *_GOING)
    _forget_admin(live)
    with _front(live) as where, live.traffic(_CLIENTS) as traffic:
        unknown = live.run(*run, *where, "--admin-url", f"http://{admin}", "--ca-file", "")
        assert _is_untouched(live)
        done = live.run(*run, *where, "--admin-url", f"http://{admin}")
        traffic.settle(visits=2)

    assert 0 == done.returncode, done.stderr + done.stdout
    assert f"{_CLIENTS} of {_CLIENTS} clients are back" in events(done)[-1]["text"]
    assert live.target.other_image == live.image()
    assert 5 == unknown.returncode, unknown.stderr
    assert "certificate" in unknown.stderr


def test_public_address_of_something_else_is_refused(live: Live) -> None:
    """A switch would be proven there, and could not be."""
    forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with odd_server(forbidden) as port:
        done = live.run(
            "rollout", "run", "--image", live.target.other_image, *_GOING, "--url", f"ws://127.0.0.1:{port}"
        )

    assert 3 == done.returncode, done.stderr
    assert "a new WebSocket is refused at the public address" in done.stderr
    assert _is_untouched(live)


def test_service_without_an_admin_api_is_rolled_out_degraded(live: Live) -> None:
    """Said and refused without the flag; with it SIGTERM drains, and nobody misses anything either."""
    _forget_admin(live)
    live.kubectl("delete", "service", f"{NAME}-admin")
    run = ("rollout", "run", "--image", live.target.other_image, *_GOING)
    refused = live.run(*run)
    assert 2 == refused.returncode, refused.stderr
    for way_out in ("slackwater.dev/admin-service=SERVICE:PORT", "--admin-url", "--degraded"):
        assert way_out in refused.stderr
    assert _is_untouched(live)

    with live.traffic(_CLIENTS) as traffic:
        done = live.run(*run, "--degraded")
        traffic.settle(visits=2)

    assert 0 == done.returncode, done.stderr + done.stdout
    assert live.target.other_image == live.image()
    assert "degraded: SIGTERM drains" == _said(done, "DRAIN")
    assert "a WebSocket is let in; nothing else was tried" == _said(done, "SMOKE")


def test_admin_key_that_is_wrong_or_not_there_is_named(live: Live) -> None:
    """Before anything is changed."""
    run = ("rollout", "run", "--image", live.target.other_image, *_GOING)
    (live.folder / "admin-key").write_text("not-the-admin-key-of-this-release")
    wrong = live.run(*run, "--admin-key-file", "admin-key")
    absent = live.run(*run, "--admin-key-file", "nowhere")
    live.kubectl("delete", "secret", f"{NAME}-keys")
    none = live.run(*run)

    assert (3, 2, 2) == tuple(one.returncode for one in (wrong, absent, none)), wrong.stderr + absent.stderr
    assert "does not accept the admin key" in wrong.stderr
    assert "the admin key in nowhere cannot be read" in absent.stderr
    assert f"there is no Secret {NAME}-keys" in none.stderr
    assert "--admin-key-file" in none.stderr
    assert "not-the-admin-key" not in wrong.stderr + wrong.stdout
    assert _is_untouched(live)
