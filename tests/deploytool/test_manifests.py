"""Reading manifests: what is accepted, and what a person is told about the rest."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from deploytool import manifests
from deploytool.errors import ManifestError

DEPLOYMENT = b"{kind: Deployment, metadata: {name: web}, spec: {replicas: 1}}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"a: [1", "not valid YAML", id="cut short"),
        pytest.param(b"a: b: c", "line 1: not valid YAML", id="with the line"),
        pytest.param(b"a: !!python/object:os.system {}", "not valid YAML", id="a tag that would run code"),
        pytest.param(
            b"spec:\n  replicas: 1\n  replicas: 3\n", "line 3: not valid YAML: the key 'replicas'", id="twins"
        ),
        pytest.param(b"? [a]\n: b", "not valid YAML", id="a list as a key"),
        pytest.param(b"a: *nowhere", "not valid YAML", id="an unknown alias"),
        pytest.param(b"a: 2026-02-30", "not valid YAML", id="an impossible date"),
        pytest.param(b"replicas: {{ .Values.replicas }}\n", "render it first", id="a template"),
        pytest.param(b"\x00\x01\x02", "not text", id="binary"),
        pytest.param(b"name: \xff\xfe\xfd", "not text", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="nested too deeply"),
    ],
)
def test_parse_refuses_what_it_cannot_read(content: bytes, says: str) -> None:
    """Every refusal is one line that names the file."""
    with pytest.raises(ManifestError) as caught:
        manifests.parse("web.yaml", content)

    assert str(caught.value).startswith("web.yaml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(DEPLOYMENT, id="YAML"),
        pytest.param(
            json.dumps({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}}).encode(), id="JSON"
        ),
        pytest.param(DEPLOYMENT.decode().encode("utf-16"), id="UTF-16 with its mark"),
        pytest.param(b"base: &b {kind: Deployment, metadata: {name: web}}\n---\n" + DEPLOYMENT, id="an anchor"),
        pytest.param(b"<<: {kind: Deployment}\nmetadata: {name: web}\nspec: {replicas: 1}", id="a merged key"),
        pytest.param(b"%YAML 1.1\n---\n" + DEPLOYMENT + b"\n...\n", id="directives and an end mark"),
    ],
)
def test_parse_reads_every_form_of_a_deployment(content: bytes) -> None:
    """However it is written down, it is the same workload."""
    (workload,) = manifests.parse("web.yaml", content).workloads

    assert ("Deployment", "web", [1]) == (workload.kind, workload.name, [count.value for count in workload.counts])


def test_parse_survives_a_list_that_contains_itself() -> None:
    """An alias may point at what holds it."""
    assert manifests.parse("loop.yaml", b"kind: List\nitems: &loop [*loop]").document_count == 1


def test_read_takes_directories_in_order_and_leaves_hidden_ones_out(tmp_path: Path) -> None:
    """A checkout can be named as a whole."""
    for name in ("b.yaml", "a.yml", "c/d.json", ".git/e.yaml", "node_modules/f.yaml", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(DEPLOYMENT)

    snapshot = manifests.read([str(tmp_path)])

    assert ["a.yml", "b.yaml", "c/d.json"] == [
        str(Path(workload.place.source).relative_to(tmp_path)) for workload in snapshot.workloads
    ]


def test_read_takes_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered manifests come through a pipe."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DEPLOYMENT)))

    (workload,) = manifests.read([manifests.STDIN]).workloads

    assert workload.place.source == "-"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("missing.yaml", "no such file", id="missing"),
        pytest.param("empty", "no .yaml", id="a directory without manifests"),
        pytest.param("file.yaml/below", "cannot be read", id="below a file"),
        pytest.param("nul\0byte", "cannot be read", id="no name for a file"),
    ],
)
def test_read_names_the_path_that_it_cannot_read(tmp_path: Path, name: str, says: str) -> None:
    """The operating system's error becomes one line."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.yaml").write_bytes(DEPLOYMENT)

    with pytest.raises(ManifestError, match=says):
        manifests.read([str(tmp_path / name)])
