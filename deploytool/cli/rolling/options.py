"""Options that several commands share, and the file behind them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytool.planning.configuration import Planning
    from deploytool.settings import Settings

__all__ = ("DURATION", "REPORT", "config_option", "reaching", "read", "together")


class _Duration(click.ParamType[float]):
    """A duration such as ``30s``, ``5m``, ``1h30m`` or ``90``, in seconds."""

    name = "duration"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # click's
        """Return seconds."""
        from deploytool.planning.configuration import seconds_of

        if isinstance(value, int | float):
            return float(value)
        found = float(value) if value.isdecimal() else seconds_of(value)
        if found is None:
            self.fail(f"{value!r} is no duration; write 30s, 5m or 1h30m", param, ctx)
        return found


class _ReportFile(click.ParamType[str]):
    """A file that can be written when everything is over; found out before anything begins."""

    name = "file"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # click's
        """Return its path."""
        path = Path(value)
        if path.exists() and not path.is_file():
            self.fail(f"{value} is there, and is no file", param, ctx)
        folder = path.absolute().parent
        try:
            with TemporaryFile(dir=folder):
                return str(path)
        except OSError as error:
            self.fail(f"the report cannot be written into {folder}: {error.strerror or error}", param, ctx)


DURATION = _Duration()
REPORT = _ReportFile()


def together(*options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401 - click's decorators
    """Return one decorator for several options."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


config_option = click.option("--config", metavar="FILE", help="Settings; ./deploytool.yaml where there is one.")

reaching = together(
    config_option,
    click.option("--kubeconfig", metavar="FILE", help="Instead of $KUBECONFIG or ~/.kube/config."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("-n", "--namespace", metavar="NAME", help="Namespace of the release."),
    click.option("-w", "--workload", metavar="NAME", help="Name of the Deployment; else the only one of ours."),
    click.option("--url", metavar="URL", help="Public address; else what Ingress or HTTPRoute say."),
    click.option("--connect-to", metavar="HOST:PORT", help="Connect here, and call it by the public address's name."),
    click.option("--ca-file", metavar="FILE", help="More certificate authorities to believe."),
    click.option("--admin-url", metavar="URL", help="Admin API; else through the API server."),
    click.option("--admin-key-file", metavar="FILE", help="Admin key; else $SLACKWATER_ADMIN_KEY, or the Secret."),
)


def read(config: str | None) -> tuple[Settings, Planning]:
    """Read the file with the settings: where to look, and when.

    Raises:
        DeploytoolError: It cannot be read, or makes no sense.
    """
    from deploytool.cli.checking import words
    from deploytool.errors import ManifestError, SettingsError
    from deploytool.manifests.documents import load
    from deploytool.planning.configuration import Planning, planning_of
    from deploytool.settings import FILE, Settings, settings_of

    path = Path(config or FILE)
    if config is None and not path.is_file():
        return Settings(), Planning()
    try:
        documents = load(str(path), path.read_bytes())
    except OSError as error:
        raise ManifestError(str(path), f"cannot be read: {error.strerror or error}") from error
    if len(documents) > 1:
        raise SettingsError(str(path), ["it holds more than one document"])
    content = documents[0] if documents else None
    section = None
    if isinstance(content, dict) and "windows" in content:
        section = content.pop("windows")
    return settings_of(str(path), content, words()), planning_of(str(path), section)
