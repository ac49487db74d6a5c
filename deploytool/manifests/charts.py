"""Renders Helm charts, in a child process: a chart is somebody's program.

A ``helm`` on the path does it, or else the package helm-python-sdk. Where there is neither, or the chart refuses its
values, the values alone are left to be judged.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from deploytool.manifests.documents import load
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ("CHART_FILE", "merged", "rendered", "values_of")

CHART_FILE = "Chart.yaml"

_SECONDS = 30.0
_LONGEST_REASON = 2000
_RELEASE = "release-name"
_SDK = "helm_python"
_WAY_OUT = (
    "Install Helm, or `pip install 'slackwater[helm]'`; or render it elsewhere: "
    "`helm template CHART --values VALUES | deploytool check --offline -`."
)
_CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import helm_python
call = json.load(sys.stdin)
def merge(below, above):
    both = {k: merge(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return {**below, **above, **both}
try:
    values = call["values"]
    for one in call["set"]:
        values = merge(values, helm_python.parse_set_string(one))
    print(json.dumps(helm_python.Chart.load(call["chart"]).render(values, name=call["name"], namespace="default")))
except helm_python.HelmError as error:
    print(error, file=sys.stderr)
    raise SystemExit(1)
"""


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with others laid over them, as Helm does: mappings are joined, everything else is replaced."""
    joined = {
        name: merged(below[name], value)
        for name, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(name), dict)
    }
    return {**below, **above, **joined}


def values_of(sources: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    """Return the values of several files, those of later ones over those of earlier ones.

    Raises:
        ManifestError: One of them is not YAML.
    """
    values: dict[str, Any] = {}
    for source, data in sources:
        for document in load(source, data):
            values = merged(values, document) if isinstance(document, dict) else values
    return values


def rendered(chart: Path, values: Mapping[str, Any], assignments: Sequence[str]) -> Mapping[str, str] | Unseen:
    """Return the text of each template by its name, or why there is none.

    Args:
        chart: Its directory.
        values: What to lay over the chart's own.
        assignments: As ``helm --set`` takes them.
    """
    binary = shutil.which("helm")
    if binary is not None:
        return _by_binary(binary, chart, values, assignments)
    if find_spec(_SDK) is None:
        return Unseen("there is nothing here that renders charts", _WAY_OUT)
    call = {"chart": str(chart.resolve()), "values": values, "set": list(assignments), "name": _RELEASE}
    done = _run([sys.executable, "-c", _CHILD], json.dumps(call, default=str))
    if isinstance(done, Unseen):
        return done
    try:
        texts: dict[str, str] = json.loads(done)
    except ValueError:
        return Unseen("the renderer answered something that is not JSON", _WAY_OUT)
    return {name.partition("/")[2]: text for name, text in sorted(texts.items()) if name.endswith((".yaml", ".yml"))}


def _by_binary(
    binary: str, chart: Path, values: Mapping[str, Any], assignments: Sequence[str]
) -> Mapping[str, str] | Unseen:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(values, file, default=str)
        file.flush()
        command = [binary, "template", _RELEASE, str(chart.resolve()), "--values", file.name]
        done = _run([*command, *(part for one in assignments for part in ("--set", one))], "")
    return done if isinstance(done, Unseen) else {"templates": done}


def _run(command: Sequence[str], text: str) -> str | Unseen:
    try:
        done = subprocess.run(  # noqa: S603  # Helm, or our own interpreter
            command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        return Unseen(f"rendering took more than {_SECONDS:g} s", _WAY_OUT)
    except (OSError, UnicodeError) as error:
        return Unseen(f"rendering failed: {error}", _WAY_OUT)
    if done.returncode:
        # What follows is a dump of the renderer's stacks.
        said = " ".join(done.stderr.split()).partition(" goroutine ")[0]
        reason = said[:_LONGEST_REASON] or f"the renderer ended with {done.returncode}"
        return Unseen(
            f"the chart cannot be rendered: {reason}", "Add what it asks for with --values FILE or --set NAME=VALUE."
        )
    return done.stdout
