"""The Replit configuration of the documentation: it starts the service, on one machine."""

from __future__ import annotations

import tomllib

import pytest

from service.settings import GROUPS, settings_of
from tests.deploytool.patterns.pages import ROOT, blocks
from tests.support.process import ServiceProcess
from tests.support.stock_client import stock_client

(TEXT,) = blocks("replit.md", "toml")
CONFIGURATION = tomllib.loads(TEXT)
SECRETS = ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET")


def test_it_is_one_machine() -> None:
    """Autoscale would start more."""
    assert "vm" == CONFIGURATION["deployment"]["deploymentTarget"]


def test_it_holds_no_secret_and_no_unknown_name() -> None:
    """Secrets come from elsewhere; a name that the service does not know would be passed over without a word."""
    known = {setting.name for group in GROUPS.values() for setting in settings_of(group).values()}

    assert CONFIGURATION["env"].keys() <= known
    assert not {*SECRETS} & CONFIGURATION["env"].keys()


def test_its_commands_and_files_are_there() -> None:
    """What is built and run exists in the checkout."""
    assert "python -m service" == CONFIGURATION["run"]
    assert CONFIGURATION["deployment"]["run"][-1].removeprefix("exec ") == CONFIGURATION["run"]
    assert (ROOT / "requirements.lock").is_file()
    (port,) = CONFIGURATION["ports"]
    assert str(port["localPort"]) == CONFIGURATION["env"]["PORT"]


@pytest.mark.e2e
async def test_the_service_starts_with_it() -> None:
    """With its environment, on a port of the test's own, and a stock client connects."""
    environ = {**CONFIGURATION["env"], "HOST": "127.0.0.1", "PORT": "0", "ADMIN_PORT": "0"}
    async with ServiceProcess.start(environ) as service, stock_client(service.ws_url, token=service.token("alice")):
        pass
