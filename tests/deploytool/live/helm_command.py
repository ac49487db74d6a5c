"""The command line of ``helm``, as far as the pages and the deploy tool use it, done by the SDK.

``python -m`` this, by the name of helm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from helm_python import Config
from helm_python.errors import HelmError

__all__ = ("main",)

_SECONDS = 60


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="helm", allow_abbrev=False)
    commands = parser.add_subparsers(dest="action", required=True)
    for action in ("install", "upgrade", "rollback", "history", "status", "test", "uninstall"):
        command = commands.add_parser(action, allow_abbrev=False)
        command.add_argument("release")
        command.add_argument("--namespace", required=True)
        command.add_argument("--kube-context")
        if action in ("install", "upgrade"):
            command.add_argument("chart")
            command.add_argument("--values", action="append", default=[])
            command.add_argument("--set", action="append", default=[])
        if action == "upgrade":
            command.add_argument("--reuse-values", action="store_true")
            command.add_argument("--reset-values", action="store_true")
            command.add_argument("--dry-run", choices=("server",))
            command.add_argument("--output", choices=("json",))
        if action == "rollback":
            command.add_argument("revision", type=int)
        if action == "test":
            command.add_argument("--logs", action="store_true")
        if action in ("install", "upgrade", "rollback", "uninstall"):
            command.add_argument("--wait", action="store_true")
    return parser


def _values(given: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for file in given.values:
        values |= yaml.safe_load(sys.stdin if file == "-" else Path(file).read_text()) or {}
    for one in given.set:
        path, _, text = one.partition("=")
        *way, last = path.split(".")
        at = values
        for step in way:
            at = at.setdefault(step, {})
        at[last] = yaml.safe_load(text) if text else ""
    return values


def _do(config: Config, given: argparse.Namespace) -> str:  # noqa: PLR0911 - one for each command
    waiting: dict[str, Any] = {"wait": "watcher", "timeout": _SECONDS} if getattr(given, "wait", False) else {}
    match given.action:
        case "install":
            config.install(given.chart, given.release, _values(given), **waiting)
        case "upgrade":
            how = {name: getattr(given, name) for name in ("reuse_values", "reset_values", "dry_run")}
            done = config.upgrade(given.chart, given.release, _values(given), **how, **waiting)
            if given.output:
                return json.dumps(done)
        case "rollback":
            config.rollback(given.release, version=given.revision, **waiting)
            return "Rollback was a success! Happy Helming!"
        case "uninstall":
            config.uninstall(given.release, **waiting)
        case "test":
            return str(config.test(given.release, logs=given.logs))
        case "status":
            return str(config.status(given.release))
        case _:
            rows = [_row(one) for one in config.history(given.release)]
            return "\n".join(["REVISION\tUPDATED\tSTATUS\tCHART", *rows])
    return f'Release "{given.release}": {given.action}'


def _row(one: Any) -> str:  # noqa: ANN401 - JSON
    return f"{one['revision']}\t{one['deployed_at']}\t{one['status']}\t{one['chart_name']}-{one['chart_version']}"


def main() -> int:
    """Carry it out."""
    given = _parser().parse_args()
    try:
        with Config(
            kubeconfig_path=os.environ["KUBECONFIG"], kube_context=given.kube_context, namespace=given.namespace
        ) as config:
            print(_do(config, given))  # noqa: T201 - a command line
    except HelmError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - ditto
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
