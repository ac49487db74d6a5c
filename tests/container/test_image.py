"""The Dockerfile carried out, and its image run, without a container builder: ``tests.container.sandbox`` says how."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.container import sandbox
from tests.container.dockerfile import Stage, stages

ROOT = Path(__file__).parents[2]
STAGES = stages((ROOT / "Dockerfile").read_text())
USER = 10001

# Prints every folder that the process may write to, apart from the kernel's own.
WRITABLE = """
import os
for folder, children, _ in os.walk("/"):
    children[:] = [name for name in children if os.path.join(folder, name) not in ("/proc", "/dev", "/sys")]
    if os.access(folder, os.W_OK):
        print(folder)
        children.clear()
"""

# The first of these tests builds the image, for all of them, in one worker.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("container")]


@pytest.fixture(scope="module")
def image() -> Stage:
    """The last stage, as written."""
    return STAGES[-1]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> sandbox.Sandbox:
    """The image, built once."""
    lacking = sandbox.missing()
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI has to run the image, but {lacking}")
    if lacking:
        pytest.skip(lacking)
    return sandbox.build(STAGES, ROOT, tmp_path_factory.mktemp("image"))


def free_port() -> str:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def settings() -> dict[str, str]:
    """Return what ``docker run --env`` would be given; only loopback is bound, and no port that may be taken."""
    return {
        "HOST": "127.0.0.1",
        "PORT": free_port(),
        "ADMIN_HOST": "127.0.0.1",
        "ADMIN_PORT": free_port(),
        "API_KEY": secrets.token_urlsafe(32),
        "ADMIN_KEY": secrets.token_urlsafe(32),
        "TOKEN_HMAC_SECRET": secrets.token_urlsafe(32),
    }


def wait_until_ready(process: subprocess.Popen[str], port: str, *, seconds: float = 30) -> None:
    """Return when the service says that it is ready; fail with its output when it ends or takes too long."""
    deadline = time.perf_counter() + seconds
    while process.poll() is None and time.perf_counter() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health/ready", timeout=2).close()
        except OSError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        else:
            return
    process.kill()
    pytest.fail(f"not ready; it said:\n{process.communicate()[0]}")


def test_only_data_and_tmp_can_be_written_to(container: sandbox.Sandbox) -> None:
    """The image works with a read-only root file system; this proves that the sandbox has one."""
    code, output = container.run(["python", "-c", WRITABLE])

    assert (code, sorted(output.split())) == (0, ["/data", "/tmp"])  # noqa: S108  # the container's own


def test_deploytool_is_in_the_image(container: sandbox.Sandbox) -> None:
    """The console script works, so its interpreter line and metadata are right."""
    code, output = container.run(["deploytool", "--version"])

    assert (code, output.startswith("deploytool, version")) == (0, True)


def test_guard_is_in_the_image(container: sandbox.Sandbox) -> None:
    """As the chart starts it, with all that it takes; without a cluster it says so."""
    whole, seen = container.run(["python", "-c", "import deploytool.guard.handlers, kubernetes"])
    code, output = container.run(["python", "-m", "deploytool", "guard", "run"])

    assert (0, "") == (whole, seen)
    assert (2, True) == (code, "no cluster is configured" in output)


def test_service_names_the_secrets_that_it_lacks(container: sandbox.Sandbox, image: Stage) -> None:
    """A container without its secrets ends at once and says what is missing."""
    code, output = container.run(image.entrypoint, HOST="127.0.0.1", ADMIN_HOST="127.0.0.1", PORT="0", ADMIN_PORT="0")

    assert code not in {0, None}
    assert [name for name in ("API_KEY", "ADMIN_KEY", "TOKEN_") if name not in output] == []


def test_service_serves_as_the_image_runs_it(container: sandbox.Sandbox, image: Stage) -> None:
    """Unprivileged, read-only, with the image's own entry point, health check and stop signal."""
    environment = settings()
    process = container.start(image.entrypoint, **environment)
    try:
        wait_until_ready(process, environment["PORT"])

        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == [str(USER)] * 4
        assert int(status["CapEff"], 16) == 0
        assert container.run(image.healthcheck, **environment)[0] == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{environment['PORT']}/api/health/websocket") as answer:
            assert json.load(answer)["phase"] == "ACTIVE"
    finally:
        process.send_signal(signal.Signals[image.stop_signal])
        output, _ = process.communicate(timeout=40)

    assert process.returncode == 0, output
    assert container.run(image.healthcheck, **environment)[0] != 0
