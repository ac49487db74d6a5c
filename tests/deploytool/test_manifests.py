"""Reading what is about to be deployed: what is accepted, and what a person is told about the rest."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest

from deploytool import manifests
from deploytool.errors import ManifestError
from deploytool.manifests import charts, compose, nginx
from deploytool.manifests.documents import MAX_BYTES
from deploytool.model.observations import Unseen
from deploytool.model.snapshot import Snapshot

DEPLOYMENT = b"{kind: Deployment, metadata: {name: web}, spec: {replicas: 1}}"
CHART = Path(__file__).parents[2] / "helm" / "slackwater"
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(ord("b"), ord("k"))
)
MERGES = b"a: &a {k0: 1, k1: 2}\n" + b"".join(
    b"%c: &%c {<<: [%s]}\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9))
    for letter in range(ord("b"), ord("k"))
)


def read(*paths: Path, reading: manifests.Reading | None = None) -> Snapshot:
    """Read files."""
    return manifests.read([str(path) for path in paths], 0.0, reading)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"a: [1", "not valid YAML", id="cut short"),
        pytest.param(b"a: b: c", "line 1, column 5: not valid YAML", id="with line and column"),
        pytest.param(b"a: !!python/object:os.system {}", "not valid YAML", id="a tag that would run code"),
        pytest.param(
            b"spec:\n  replicas: 1\n  replicas: 3\n",
            "line 3, column 3: not valid YAML: the key 'replicas'",
            id="twins",
        ),
        pytest.param(b"? [a]\n: b", "not valid YAML", id="a list as a key"),
        pytest.param(b"a: *nowhere", "not valid YAML", id="an unknown alias"),
        pytest.param(b"a: 2026-02-30", "not valid YAML", id="an impossible date"),
        pytest.param(b"replicas: {{ .Values.replicas }}\n", "name the chart's directory", id="a template"),
        pytest.param(b"\x00\x01\x02", "not text", id="binary"),
        pytest.param(b"name: \xff\xfe\xfd", "not text", id="not UTF-8"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(range(256)), "not text", id="a program"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="nested too deeply"),
        pytest.param(b"a: " * 100_000, "not valid YAML", id="one long line"),
        pytest.param(b"a: &a [*a]", "counting what aliases repeat", id="a list that holds itself"),
        pytest.param(BOMB, "counting what aliases repeat", id="an alias bomb"),
        pytest.param(MERGES, "grow without end", id="a bomb of merges"),
        pytest.param(b"#" * (MAX_BYTES + 1), "larger than 16 MiB", id="huge"),
    ],
)
def test_parse_refuses_what_it_cannot_read(content: bytes, says: str) -> None:
    """Every refusal is one line that names the file, and comes at once."""
    began = time.process_time()

    with pytest.raises(ManifestError) as caught:
        manifests.parse("web.yaml", content)

    assert str(caught.value).startswith("web.yaml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(DEPLOYMENT, id="YAML"),
        pytest.param(
            json.dumps({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}}).encode(), id="JSON"
        ),
        pytest.param(DEPLOYMENT.decode().encode("utf-16"), id="UTF-16 with its mark"),
        pytest.param(b"base: &b {metadata: {name: web}}\n---\n" + DEPLOYMENT, id="an anchor"),
        pytest.param(b"<<: {kind: Deployment}\nmetadata: {name: web}\nspec: {replicas: 1}", id="a merged key"),
        pytest.param(b"%YAML 1.1\n---\n" + DEPLOYMENT + b"\n...\n", id="directives and an end mark"),
        pytest.param(b"{kind: List, items: [" + DEPLOYMENT + b"]}", id="inside a list"),
    ],
)
def test_parse_reads_every_form_of_a_deployment(content: bytes) -> None:
    """However it is written down, it is the same workload."""
    (workload,) = manifests.parse("web.yaml", content).of_kind("Deployment")

    assert ("web", 1) == (workload.name, workload.child("spec").setting("replicas").value)


def test_parse_knows_lines() -> None:
    """What is said of a value names its line."""
    (workload,) = manifests.parse("web.yaml", b"kind: Deployment\nspec:\n\n  replicas: 3\n").objects

    assert 4 == workload.child("spec").setting("replicas").evidence.line


def test_read_takes_directories_in_order_and_leaves_hidden_ones_out(tmp_path: Path) -> None:
    """A checkout can be named as a whole."""
    for name in ("b.yaml", "a.yml", "c/d.json", ".git/e.yaml", "node_modules/f.yaml", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(DEPLOYMENT)

    snapshot = read(tmp_path)

    assert ["a.yml", "b.yaml", "c/d.json"] == [
        str(Path(workload.place.source).relative_to(tmp_path)) for workload in snapshot.objects
    ]


def test_read_does_not_follow_links_in_circles(tmp_path: Path) -> None:
    """A link to the folder above, one to itself, one to nothing."""
    (tmp_path / "web.yaml").write_bytes(DEPLOYMENT)
    (tmp_path / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.yaml").symlink_to(tmp_path / "self.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere.yaml")

    assert 1 == len(read(tmp_path).objects)


def test_read_refuses_what_is_no_file(tmp_path: Path) -> None:
    """A pipe would be waited for without end."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)

    with pytest.raises(ManifestError, match="no regular file"):
        read(pipe)


def test_read_takes_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered manifests come through a pipe."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DEPLOYMENT)))

    (workload,) = manifests.read([manifests.STDIN], 0.0).objects

    assert workload.place.source == "-"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("missing.yaml", "no such file", id="missing"),
        pytest.param("empty", "no chart, and no .yaml", id="a directory without anything"),
        pytest.param("file.yaml/below", "cannot be read", id="below a file"),
        pytest.param("nul\0byte", "cannot be read", id="no name for a file"),
        pytest.param("self", "cannot be read", id="a link to itself"),
    ],
)
def test_read_names_the_path_that_it_cannot_read(tmp_path: Path, name: str, says: str) -> None:
    """The operating system's error becomes one line."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.yaml").write_bytes(DEPLOYMENT)
    (tmp_path / "self").symlink_to(tmp_path / "self")

    with pytest.raises(ManifestError, match=says):
        read(tmp_path / name)


# compose


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("$NAME", "given", id="plain"),
        pytest.param("${NAME}", "given", id="braces"),
        pytest.param("${NAME:-other}", "given", id="default not needed"),
        pytest.param("${EMPTY:-other}", "other", id="empty takes the default"),
        pytest.param("${EMPTY-other}", "", id="empty is given"),
        pytest.param("${MISSING-other}", "other", id="default"),
        pytest.param("${MISSING}", "", id="missing is empty"),
        pytest.param("${MISSING:?say it}", "${MISSING:?say it}", id="required and missing stays"),
        pytest.param("${NAME:+set}", "set", id="alternative"),
        pytest.param("${MISSING:+set}", "", id="no alternative"),
        pytest.param("$$NAME", "$NAME", id="escaped"),
        pytest.param("a ${NAME} b $NAME", "a given b given", id="several"),
    ],
)
def test_compose_variables_are_put_in_as_compose_does(text: str, value: str) -> None:
    """So that what is judged is what would run."""
    assert {"x": [value]} == compose.interpolated({"x": [text]}, {"NAME": "given", "EMPTY": ""})


def test_compose_reads_the_file_beside_it(tmp_path: Path) -> None:
    """The process's own environment wins over ``.env``, as with docker compose."""
    (tmp_path / ".env").write_text("# none\nexport A=1\nB = 'two'\nC=3 # three\nbad line\n")
    (tmp_path / "compose.yaml").write_text("services: {web: {environment: {X: '$A', Y: '$B', Z: '$C'}}}")

    (service,) = read(tmp_path / "compose.yaml", reading=manifests.Reading(environment={"C": "4"})).compose

    assert {"X": "1", "Y": "two", "Z": "4"} == dict(service.child("environment").content)


# charts


def test_a_chart_is_rendered(tmp_path: Path) -> None:
    """With values files over its own, and assignments over both."""
    values = tmp_path / "production.yaml"
    values.write_text("image: {repository: registry.example.org/slackwater}\nexistingSecret: other\n")
    reading = manifests.Reading(
        value_files=[(str(values), values.read_bytes())],
        assignments=["existingSecret=keys", "settings.frontendUrl=https://app.example.org"],
    )

    snapshot = read(CHART, reading=reading)

    (deployment,) = snapshot.of_kind("Deployment")
    assert deployment.place.source.endswith("slackwater/templates/deployment.yaml")
    assert "'name': 'keys'" in str(deployment.content)
    assert "https://app.example.org" in str(deployment.content)
    assert not snapshot.unrendered


def test_a_chart_that_refuses_leaves_its_values(tmp_path: Path) -> None:
    """The chart's own words are handed on, and what the values say is still judged."""
    snapshot = read(CHART, reading=manifests.Reading(assignments=["replicaCount=2"]))

    (unseen,) = snapshot.unrendered.values()
    assert "the chart cannot be rendered" in unseen.why
    assert "replicaCount" in unseen.why
    assert 1 == snapshot.values[0].setting("replicaCount").value
    assert not tmp_path.joinpath("anything").exists()


def test_without_a_renderer_the_values_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here renders charts; the way out says what would."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(charts, "find_spec", lambda _: None)

    snapshot = read(CHART, reading=manifests.Reading(value_files=[("mine.yaml", b"replicaCount: 3")]))

    (unseen,) = snapshot.unrendered.values()
    assert "pip install 'slackwater[helm]'" in unseen.way_out
    assert 3 == snapshot.values[0].setting("replicaCount").value


def test_a_helm_on_the_path_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and assignments reach it, and what it prints is read."""
    helm = tmp_path / "helm"
    helm.write_text('#!/bin/sh\necho "kind: Deployment"\necho "metadata: {name: \\"$1 $6 $7\\"}"\n')
    helm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    (deployment,) = read(CHART, reading=manifests.Reading(assignments=["a=b"])).objects

    assert "template --set a=b" == deployment.name


def test_a_chart_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a process of its own."""
    helm = tmp_path / "helm"
    helm.write_text("#!/bin/sh\nexec cat /dev/zero > /dev/null\n")
    helm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(charts, "_SECONDS", 0.2)

    found = charts.rendered(CHART, {}, [])

    assert isinstance(found, Unseen)
    assert "took more than 0.2 s" in found.why


@pytest.mark.parametrize(
    "template",
    [
        pytest.param('{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}', id="endless"),
        pytest.param("{{ fail .Values.missing.deeper }}", id="a missing value"),
        pytest.param("{{ if }}", id="no template"),
        pytest.param("a: [", id="not YAML"),
    ],
)
def test_a_chart_that_cannot_be_rendered_is_told(tmp_path: Path, template: str) -> None:
    """In a sentence, whatever the renderer says."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: c, version: 1.0.0}")
    (tmp_path / "templates" / "a.yaml").write_text(template)

    try:
        (unseen,) = read(tmp_path).unrendered.values()
    except ManifestError as error:
        said = str(error)
    else:
        said = unseen.why

    assert "cannot be rendered" in said or "not valid YAML" in said
    assert len(said) < 2100


def test_a_chart_inside_a_directory_is_found(tmp_path: Path) -> None:
    """Its templates are not read as manifests."""
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("{apiVersion: v2, name: c, version: 1.0.0}")
    (tmp_path / "chart" / "templates" / "a.yaml").write_text(
        "kind: Deployment\nmetadata: {name: {{ .Release.Name }}}\nspec: {replicas: {{ .Values.count }}}\n"
    )
    (tmp_path / "chart" / "values.yaml").write_text("count: 1\n")

    (deployment,) = read(tmp_path).objects

    assert 1 == deployment.child("spec").setting("replicas").value


# nginx


def test_nginx_reads_quotes_comments_and_lua() -> None:
    """Whatever a directive means, its words, block and line are there."""
    text = """# head
http {
    log_format x '$a "b" {c}; # no comment' "d\\"e";
    map $http_upgrade $connection { default upgrade; '' close; }
    content_by_lua_block { if x then y = {1, 2} end }
    server { listen 80; set $v ${host}_x; }
}
"""
    (http,) = nginx.parse("nginx.conf", text).block or ()

    assert ["log_format", "map", "content_by_lua_block", "server"] == [one.name for one in http.block or ()]
    assert ("x", '$a "b" {c}; # no comment', 'd"e') == http.every("log_format")[0].arguments
    assert 6 == http.every("server")[0].line
    assert ("$v", "${host}_x") == (http.every("server")[0].every("set")[0].arguments)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("server {\n listen 80;\n", "line 1: no nginx configuration: a block that is never", id="open"),
        pytest.param("server { }\n}\n", "line 2: no nginx configuration: a closing brace too many", id="closed"),
        pytest.param("server { listen 80 }", "a directive without a semicolon", id="no semicolon"),
        pytest.param("listen 80", "a directive without a semicolon", id="cut short"),
        pytest.param("log 'abc", "a quote that is never closed", id="quote"),
        pytest.param("{ }", "a block without a name", id="nameless"),
        pytest.param("a { " * 100 + "} " * 100, "nested too deeply", id="deep"),
        pytest.param("\0", "not text", id="binary"),
    ],
)
def test_nginx_refuses_what_nginx_would(text: str, says: str) -> None:
    """With the line."""
    with pytest.raises(ManifestError) as caught:
        manifests.parse("site.conf", text.encode())

    assert says in str(caught.value)


def test_nginx_includes_what_lies_beside_it(tmp_path: Path) -> None:
    """Nothing above the folder is read, and a file that includes itself ends."""
    (tmp_path / "nginx.conf").write_text("http { include sites/*.conf; include ../secret; include /etc/passwd; }")
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a.conf").write_text("server { listen 1; }")
    (tmp_path / "loop.conf").write_text("include loop.conf;")

    (proxy,) = read(tmp_path / "nginx.conf").proxies

    (http,) = proxy.block or ()
    assert ["server", "include", "include"] == [one.name for one in http.block or ()]
    assert http.every("server")[0].source.endswith("a.conf")
    with pytest.raises(ManifestError, match="nested too deeply"):
        read(tmp_path / "loop.conf")


def test_nginx_includes_are_bounded(tmp_path: Path) -> None:
    """Files that include each other would be read without end."""
    for name in range(10):
        (tmp_path / f"{name}.conf").write_text("include *.conf;")

    with pytest.raises(ManifestError, match=r"more than 500 files|nested too deeply"):
        read(tmp_path / "0.conf")


def test_other_conf_files_in_a_directory_are_passed_over(tmp_path: Path) -> None:
    """Many programs call their settings so."""
    (tmp_path / "web.yaml").write_bytes(DEPLOYMENT)
    (tmp_path / "supervisord.conf").write_text("[program:x]\ncommand = y\n")

    snapshot = read(tmp_path)

    assert ((), 1) == (snapshot.proxies, len(snapshot.objects))
