from __future__ import annotations

import subprocess
import sys

import jwt
import pytest

from tests.support.process import ROOT

SECRET = "a secret of more than thirty-two bytes, for tests"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m service`` to its end, with this environment and nothing else."""
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["serve", "--workers", "2"]])
def test_more_than_one_worker_is_refused_with_the_reason(arguments: list[str]) -> None:
    """Wherever the option stands."""
    ended = run(*arguments, SLACKWATER_MODE="development")

    assert 2 == ended.returncode
    assert "WEB_CONCURRENCY" in ended.stderr
    assert "memory" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_missing_secret_is_named() -> None:
    """All at once, and no secret is shown."""
    ended = run(ADMIN_KEY="too short to be a key")

    assert 2 == ended.returncode
    assert all(name in ended.stderr for name in ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET"))
    assert "too short to be a key" not in ended.stderr


def test_token_prints_a_token_for_the_user() -> None:
    """Signed with the service's secret, for a connection or for a channel."""
    plain = run("token", "--user", "42", TOKEN_HMAC_SECRET=SECRET)
    channel = run("token", "--user", "42", "--channel", "$room", TOKEN_HMAC_SECRET=SECRET)

    claims = jwt.decode(plain.stdout.strip(), SECRET, algorithms=["HS256"])
    assert ("42", None) == (claims["sub"], claims.get("channel"))
    assert "$room" == jwt.decode(channel.stdout.strip(), SECRET, algorithms=["HS256"])["channel"]


def test_token_without_a_secret_says_what_to_do() -> None:
    """A token signed with something else would be worth nothing."""
    ended = run("token", "--user", "42")

    assert 2 == ended.returncode
    assert "TOKEN_HMAC_SECRET" in ended.stderr


def test_apikey_prints_a_key_that_is_strong_enough() -> None:
    """And another one each time."""
    keys = {run("apikey").stdout.strip() for _ in range(2)}

    assert 2 == len(keys)
    assert all(len(key) >= 32 for key in keys)
