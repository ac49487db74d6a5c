from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import pytest

from service.settings import GROUPS, Lock, Outbox, Secret, Settings, load, settings_of
from tests.helm.rendering import (
    FIELDS,
    KEYS,
    MINIMAL,
    Manifest,
    container,
    edited,
    environment,
    render,
    texts,
    values_of,
)

US = "live-slackwater"
DATABASE = ("database.existingSecret=pg",)
DIRECT = (*DATABASE, "database.directKey=direct", "database.directPort=5433")
SECRETS = {
    "keys": KEYS,
    "pg": {"url": "postgresql://u:p@pooler/slackwater", "direct": "postgresql://u:p@db/slackwater"},
}


def pod(values: Mapping[str, Any] = MINIMAL) -> Manifest:
    """Return the pod that the Deployment makes."""
    spec: Manifest = render(values)["Deployment", US]["spec"]["template"]["spec"]
    return spec


def loaded(values: Mapping[str, Any], tmp_path: Path) -> Settings:
    """Load the rendered environment as the service does, with the ConfigMap where it is mounted."""
    objects = render(values)
    environ = environment(container(objects), SECRETS)
    if "NAMESPACES_FILE" in environ:
        mounted = tmp_path / "namespaces.json"
        mounted.write_text(objects["ConfigMap", f"{US}-namespaces"]["data"]["namespaces.json"])
        environ["NAMESPACES_FILE"] = str(mounted)
    return load(environ, secret=lambda: pytest.fail("no secret is made up in production"))


def test_one_replica_replaced_by_recreate() -> None:
    """The only correct shape."""
    spec = render()["Deployment", US]["spec"]

    assert (1, {"type": "Recreate"}) == (spec["replicas"], spec["strategy"])


def test_where_the_pod_runs_is_left_to_the_cluster() -> None:
    """No topology spread, no affinity: there is one pod."""
    assert not {"affinity", "topologySpreadConstraints", "nodeSelector", "tolerations"} & pod().keys()


def test_services_and_budget_select_the_pod_and_nothing_else() -> None:
    """The test pod carries the release's labels too, and must not get traffic."""
    objects = render()
    labels = objects["Deployment", US]["spec"]["template"]["metadata"]["labels"]
    test_labels = objects["Pod", f"{US}-test"]["metadata"]["labels"]
    selectors = [
        objects["Deployment", US]["spec"]["selector"]["matchLabels"],
        objects["Service", US]["spec"]["selector"],
        objects["Service", f"{US}-admin"]["spec"]["selector"],
        objects["PodDisruptionBudget", US]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy", US]["spec"]["podSelector"]["matchLabels"],
    ]

    assert all(selector.items() <= labels.items() for selector in selectors)
    assert not any(selector.items() <= test_labels.items() for selector in selectors)


def every_container() -> list[tuple[str, Manifest, Manifest]]:
    """Return name, pod and container of all that the chart can run."""
    objects = render(values_of(*DATABASE))
    pods = [objects["Deployment", US]["spec"]["template"]["spec"], objects["Pod", f"{US}-test"]["spec"]]
    return [(one["name"], spec, one) for spec in pods for one in (*spec.get("initContainers", ()), *spec["containers"])]


@pytest.mark.parametrize(("pod_", "one"), [pytest.param(p, c, id=name) for name, p, c in every_container()])
def test_nothing_runs_with_more_rights_than_it_needs(pod_: Manifest, one: Manifest) -> None:
    """The restricted profile of Kubernetes, a read-only root, no token, and a limit of memory."""
    assert pod_["securityContext"]["runAsNonRoot"] is True
    assert pod_["securityContext"]["runAsUser"] == pod_["securityContext"]["fsGroup"] == 10001
    assert {"type": "RuntimeDefault"} == pod_["securityContext"]["seccompProfile"]
    assert pod_["automountServiceAccountToken"] is False
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == one["securityContext"]
    assert one["resources"]["limits"].keys() == {"memory"}


def test_service_account_has_no_token() -> None:
    """Neither it nor the pod asks for one; the name can be given."""
    assert render()["ServiceAccount", US]["automountServiceAccountToken"] is False
    assert pod(values_of("serviceAccount.create=false"))["serviceAccountName"] == "default"
    assert pod(values_of("serviceAccount.name=mine"))["serviceAccountName"] == "mine"


@pytest.mark.parametrize(
    ("change", "budget", "grace"),
    [
        ("drain.grace=0s", 25.0, 35),
        ("drain.budget=90s", 90.0, 100),
        ("drain.budget=1m30s500ms", 90.5, 101),
        ("drain.terminationGracePeriod=2m", 25.0, 120),
        ("drain.budget=1h", 3600.0, 3610),
    ],
)
def test_grace_period_is_longer_than_the_drain(change: str, budget: float, grace: int, tmp_path: Path) -> None:
    """As the service reads the one and Kubernetes the other; and a rollout waits for longer than both."""
    values = values_of(change)

    assert loaded(values, tmp_path).drain.budget_seconds == budget
    assert pod(values)["terminationGracePeriodSeconds"] == grace > budget + 5
    assert render(values)["Deployment", US]["spec"]["progressDeadlineSeconds"] >= grace + 300


def test_probes_ask_the_right_paths_on_the_right_ports() -> None:
    """Clients' port for what clients need; the admin port for liveness, which load must not touch."""
    one = container(render())
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    asked = {
        name: (one[name]["httpGet"]["path"], ports[one[name]["httpGet"]["port"]])
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }

    assert {
        "startupProbe": ("/api/health/startup", 3000),
        "readinessProbe": ("/api/health/ready", 3000),
        "livenessProbe": ("/api/health/live", 3001),
    } == asked


def test_ports_are_those_that_the_service_is_told(tmp_path: Path) -> None:
    """And it listens where the kubelet and the Services reach it."""
    settings = loaded(MINIMAL, tmp_path)
    ports = {port["name"]: port["containerPort"] for port in container(render())["ports"]}

    assert {"http": settings.http.port, "admin": settings.admin.port} == ports
    assert (settings.http.host, settings.admin.host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104 - what a container listens on
    assert loaded(values_of("settings.bindAddress=::"), tmp_path).http.host == "::"


def test_other_services_do_not_reach_into_the_environment() -> None:
    """A Service called admin would set ADMIN_PORT to tcp://…, which is no port."""
    assert pod()["enableServiceLinks"] is False


def test_admin_service_answers_for_a_pod_that_is_not_ready() -> None:
    """A drain and a standby are looked at through it."""
    service = render()["Service", f"{US}-admin"]["spec"]

    assert (service["type"], service["publishNotReadyAddresses"]) == ("ClusterIP", True)
    assert [{"name": "admin", "port": 3001, "targetPort": "admin"}] == service["ports"]
    assert "publishNotReadyAddresses" not in render()["Service", US]["spec"]


def test_chart_s_defaults_are_the_service_s(tmp_path: Path) -> None:
    """The rendered environment is accepted, and a setting that nobody changed is what it is without a chart."""
    # The init container migrates, so the service itself never does.
    fixed = {"HOST": "0.0.0.0", "ADMIN_HOST": "0.0.0.0", "DATABASE_URL": "memory:", "DATABASE_MIGRATE": "false"}  # noqa: S104 - what a container listens on
    expected = load({**KEYS, **fixed, "POD_UID": FIELDS["metadata.uid"]}, secret=str)
    settings = loaded(MINIMAL, tmp_path)

    for group in GROUPS.keys() - {"process", "logs"}:
        assert getattr(expected, group) == getattr(settings, group)
    assert expected.namespaces.get("chat") == settings.namespaces.get("chat")


EVERYTHING = {
    "settings": {
        "frontendUrl": "https://app.example.org",
        "replUrl": "https://repl.example.org",
        "allowedOrigins": ["https://a.example.org", "https://b.example.org:8443"],
        "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
        "anonymous": True,
        "personalChannels": False,
        "demoPage": True,
        "historyMaxMemory": "64Mi",
        "tokenAudience": "aud",
        "tokenIssuer": "iss",
        "maxConnections": 2000.0,
        "unauthenticatedShare": 0.5,
        "maxConnectionsPerUser": 7,
        "maxConnectionsPerAddress": 8,
        "messagesPerMinute": 9,
        "commandsPerMinute": 10,
        "refusalsPerMinute": 11,
        "maxMessageBytes": 1048576.0,
        "maxFrameBytes": 2097152.0,
        "maxCommandsPerFrame": 12,
        "maxChannelsPerClient": 13,
        "maxChannelLength": 14,
        "sendBufferBytes": 33554432.0,
        "maxBodyBytes": 16777216.0,
        "maxBatchCommands": 15,
        "maxBroadcastChannels": 16,
        "pingInterval": "1m",
        "pongTimeout": "1500ms",
        "idleTimeout": "1d12h",
        "connectTimeout": "2.5s",
        "requestHeadTimeout": "3s",
        "adminTtl": "1h",
        "recoveryMaxBytes": 524288.0,
        "idempotency": "10m",
        "tokenMax": "12h",
        "databasePoolSize": 17,
        "databasePoolOverflow": 0,
        "databasePoolTimeout": "1500ms",
        "databaseConnectTimeout": "2s",
        "databaseStatementTimeout": "3s",
        "lockProve": "1s",
        "lockServe": "3s",
        "lockSession": "10s",
        "lockWait": "4s",
        "outbox": False,
        "outboxPoll": "500ms",
        "outboxMaxTries": 18,
        "outboxKeep": "7d",
        "logLevel": "debug",
        "logFormat": "text",
    },
    "drain": {"grace": "2s", "spread": "1m", "budget": "90s"},
    "image": {"repository": "registry.example.org/slackwater", "digest": f"sha256:{'9f' * 32}"},
    "namespaces": [{"name": "", "presence": True}, {"name": "chat", "history_size": 10, "history_ttl": "24h"}],
}


def test_every_value_reaches_the_service(tmp_path: Path) -> None:
    """In the service's units, whatever the unit in the values; and numbers are not written as 1e+06."""
    settings = loaded({**MINIMAL, **EVERYTHING}, tmp_path)
    limits = settings.limits

    assert {"https://app.example.org", "https://b.example.org:8443"} <= settings.origins.allowed
    assert [str(network) for network in settings.http.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert (True, False, True) == (
        settings.channels.anonymous,
        settings.channels.personal_channels,
        settings.http.demo_page,
    )
    assert 67_108_864 == settings.channels.history_max_bytes
    assert ("aud", "iss") == (settings.tokens.audience, settings.tokens.issuer)
    assert (2000, 0.5, 7, 8) == (
        limits.max_connections,
        limits.unauthenticated_share,
        limits.max_connections_per_user,
        limits.max_connections_per_address,
    )
    assert (1_048_576, 2_097_152, 33_554_432, 16_777_216) == (
        limits.max_message_bytes,
        limits.max_frame_bytes,
        limits.send_buffer_bytes,
        settings.http.max_body_bytes,
    )
    assert (60.0, 1.5, 129_600.0, 2.5, 3.0, 3600.0) == (
        limits.ping_interval_seconds,
        limits.pong_timeout_seconds,
        limits.idle_timeout_seconds,
        limits.connect_timeout_seconds,
        settings.http.request_head_timeout_seconds,
        settings.admin.ttl_seconds,
    )
    assert (17, 0, 1.5, 2.0, 3.0) == (
        settings.database.pool_size,
        settings.database.pool_overflow,
        settings.database.pool_timeout_seconds,
        settings.database.connect_timeout_seconds,
        settings.database.statement_timeout_seconds,
    )
    assert Lock(1.0, 3.0, 10.0, 4.0, FIELDS["metadata.uid"]) == settings.lock
    assert Outbox(enabled=False, poll_seconds=0.5, max_tries=18, keep_seconds=604_800.0) == settings.outbox
    assert (524_288, 600.0, 43_200.0) == (
        settings.channels.recovery_max_bytes,
        settings.channels.idempotency_seconds,
        settings.tokens.max_seconds,
    )
    assert (2.0, 60.0, 90.0) == (
        settings.drain.grace_seconds,
        settings.drain.spread_seconds,
        settings.drain.budget_seconds,
    )
    assert f"sha256:{'9f' * 32}" == settings.process.image_digest
    assert settings.namespaces.get("news") is None
    assert (chat := settings.namespaces.get("chat")) is not None
    assert chat.history_ttl == 86_400.0
    assert settings.warnings == ()


def test_no_setting_is_out_of_reach() -> None:
    """Whatever the service knows is a value of the chart, fixed by it, or a secret; and the chart sets nothing else."""
    known = {setting.name for group in GROUPS.values() for setting in settings_of(group).values()}
    made = {entry["name"] for entry in container(render({**values_of(*DIRECT), **EVERYTHING}))["env"]}

    assert known == made


def test_database_comes_from_its_own_secret(tmp_path: Path) -> None:
    """By the keys that are named."""
    plain = loaded(values_of(*DATABASE), tmp_path).database
    direct = loaded(values_of(*DIRECT), tmp_path).database

    assert Secret(SECRETS["pg"]["url"]) == plain.url == direct.url
    assert plain.direct_url is None
    assert Secret(SECRETS["pg"]["direct"]) == direct.direct_url


def test_without_a_database_a_volume_holds_one(tmp_path: Path) -> None:
    """And without either there is none: what lies in an emptyDir would pretend to last."""
    kept = loaded(values_of("persistence.enabled=true"), tmp_path).database_target

    assert ("sqlite", PurePath("/data/slackwater.db")) == (kept.kind, kept.path)
    assert "memory" == loaded(MINIMAL, tmp_path).database_target.kind


@pytest.mark.parametrize("changes", [DATABASE, ("persistence.enabled=true",)], ids=["postgres", "sqlite"])
def test_migration_runs_before_the_service(changes: tuple[str, ...]) -> None:
    """With the same image and environment, unless it is switched off or there is nothing to migrate."""
    (migrate,) = pod(values_of(*changes))["initContainers"]
    serve = container(render(values_of(*changes)))

    assert ["migrate", "--wait", "60"] == migrate["args"]
    assert (serve["image"], serve["env"], serve["volumeMounts"]) == (
        migrate["image"],
        migrate["env"],
        migrate["volumeMounts"],
    )
    assert "initContainers" not in pod(values_of(*changes, "database.migrate=false"))
    assert "initContainers" not in pod()


def test_pod_is_replaced_when_the_namespaces_change() -> None:
    """The file is read at the start alone."""

    def checksum(name: str) -> str:
        template = render(values_of(f"namespaces[0].name={name}"))["Deployment", US]["spec"]["template"]
        return str(template["metadata"]["annotations"]["slackwater.dev/namespaces-checksum"])

    assert checksum("chat") == checksum("chat") != checksum("talk")


def test_pod_is_not_replaced_when_the_chart_s_version_changes(tmp_path: Path) -> None:
    """A restart costs every client a reconnect."""
    newer = edited(tmp_path, "Chart.yaml", lambda text: text.replace("\nversion: 0.1.0", "\nversion: 0.2.0"))
    template = render()["Deployment", US]["spec"]["template"]

    assert template == render(chart=newer)["Deployment", US]["spec"]["template"]


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ("image.tag=", "registry.example.org/slackwater:0.1.0"),
        ("image.tag=edge", "registry.example.org/slackwater:edge"),
        (f"image.tag=edge,image.digest=sha256:{'a' * 64}", f"registry.example.org/slackwater@sha256:{'a' * 64}"),
    ],
)
def test_image_is_the_one_that_is_named(change: str, image: str) -> None:
    """A digest wins over a tag."""
    assert container(render(values_of(change)))["image"] == image


def test_state_is_kept_in_a_volume_when_asked(tmp_path: Path) -> None:
    """Where the service looks for it, in either case."""
    mounts = {mount["name"]: mount["mountPath"] for mount in container(render())["volumeMounts"]}

    assert mounts["data"] == str(loaded(MINIMAL, tmp_path).process.data_dir)
    assert {"name": "data", "emptyDir": {}} in pod()["volumes"]
    claimed = pod(values_of("persistence.enabled=true"))["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": f"{US}-data"}} in claimed


def test_generated_secret_is_strong_and_kept() -> None:
    """The service accepts it, and an uninstall leaves it."""
    objects = render({**values_of("existingSecret="), "secret": {"generate": True}})
    secret = objects["Secret", f"{US}-keys"]
    keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    load(environment(container(objects), {f"{US}-keys": keys}), secret=str)

    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert len(set(keys.values())) == 3


def test_no_object_holds_a_secret() -> None:
    """Everything that is rendered may be shown to anybody."""
    rendered = "".join(texts({**values_of(*DATABASE), **EVERYTHING}).values())

    assert "kind: Secret\n" not in rendered
    assert not any(value in rendered for value in KEYS.values())


@pytest.mark.parametrize(
    ("values", "release", "name"),
    [
        ({}, "slackwater", "slackwater"),
        ({}, "my.release", "my-release-slackwater"),
        ({}, "r" * 53, "r" * 52),
        ({"fullnameOverride": "chat"}, "any", "chat"),
        ({"nameOverride": "push"}, "any", "any-push"),
    ],
)
def test_names_are_valid_whatever_the_release_is_called(values: dict[str, str], release: str, name: str) -> None:
    """No dot, and short enough for every suffix."""
    objects = render({**MINIMAL, **values}, release=release)
    scoped = {name for kind, name in objects if not kind.startswith(("Validating", "Cluster"))}

    assert ("Deployment", name) in objects
    assert all(len(one) <= 63 and "." not in one for one in scoped)


def test_more_environment_is_passed_on() -> None:
    """For what only the platform knows."""
    values = {**MINIMAL, "extraEnv": [{"name": "TZ", "value": "Europe/Vienna"}]}

    assert {"name": "TZ", "value": "Europe/Vienna"} in container(render(values))["env"]


def test_namespaces_are_written_as_they_are_given() -> None:
    """Regular expressions and angle brackets too."""
    given = [{"name": "chat", "channel_regex": r"[a-z<>&]+\d{2,3}"}]
    data = render({**MINIMAL, "namespaces": given})["ConfigMap", f"{US}-namespaces"]["data"]

    assert {"namespaces": given} == json.loads(data["namespaces.json"])
