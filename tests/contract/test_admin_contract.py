"""What the admin API answers is what docs/reference/admin-api.openapi.yaml promises, operation by operation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from litestar import Litestar
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import Application, build
from service.core.phase import Phase
from service.core.secret import Secret
from service.realtime.drainer import Origin
from service.settings import Admin, Database, Limits, Settings, Tokens, settings_of
from tests.support.surfaces import ADMIN_KEY, Surfaces

PATH = Path(__file__).parents[2] / "docs" / "reference" / "admin-api.openapi.yaml"
CONTRACT: dict[str, Any] = yaml.safe_load(PATH.read_text())
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
}
PROBLEMS = ("400", "401", "409", "413", "422")

Arrange = Callable[[Surfaces], None]


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document in which no object may have members that are not described: ours has none."""
    document = deepcopy(document)
    for schema in document["components"]["schemas"].values():
        _close(schema)
    return document


def _close(schema: Any) -> None:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)


CLOSED = closed(CONTRACT)


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference inside the document."""
    while "$ref" in node:
        target: Any = CLOSED
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def violations(schema: dict[str, Any], value: object) -> list[str]:
    """Return what of a value the schema does not allow."""
    validator = Draft202012Validator({**schema, "components": CLOSED["components"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def assert_described(operation_id: str, answer: httpx.Response) -> None:
    """Assert that an answer has a status, headers and a body that the operation describes."""
    described = OPERATIONS[operation_id][2]["responses"]
    assert str(answer.status_code) in described, f"{answer.status_code} is not described: {answer.text}"
    response = resolve(described[str(answer.status_code)])
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in response["content"]
    for name, header in response.get("headers", {}).items():
        assert [] == violations(resolve(header)["schema"], answer.headers.get(name))
    body: object = answer.text if media_type == "text/plain" else answer.json()
    assert [] == violations(response["content"][media_type]["schema"], body)


async def ask(surfaces: Surfaces, operation_id: str, body: object = None, **more: object) -> httpx.Response:
    """Call an operation and check its answer against the contract."""
    method, path, _ = OPERATIONS[operation_id]
    answer = await surfaces.ask(method, path, body, **more)
    assert_described(operation_id, answer)
    return answer


# The document itself.


def test_contract_is_valid_openapi() -> None:
    """Any tool that reads OpenAPI 3.1 can read it."""
    assert [] == [error.message for error in OpenAPIV31SpecValidator(CONTRACT).iter_errors()]


def _examples(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any], object]]:  # noqa: ANN401 - any part
    if isinstance(node, list):
        for index, part in enumerate(node):
            yield from _examples(part, f"{where}[{index}]")
    elif isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield where, node["schema"], node["example"]
        for name, example in node.get("examples", {}).items() if "schema" in node else ():
            yield f"{where}.{name}", node["schema"], example["value"]
        for key, part in node.items():
            yield from _examples(part, f"{where}.{key}")


EXAMPLES = [pytest.param(schema, example, id=where) for where, schema, example in _examples(CLOSED, "")]


@pytest.mark.parametrize(("schema", "example"), EXAMPLES)
def test_example_is_what_its_schema_says(schema: dict[str, Any], example: object) -> None:
    """Whoever copies an example sends or gets something real."""
    assert [] == violations(schema, example)


def test_every_body_has_an_example() -> None:
    """Of every request and every response there is something to look at."""
    contents = [
        content
        for holder in (
            *(operation.get("requestBody", {}) for _, _, operation in OPERATIONS.values()),
            *(resolve(item) for _, _, operation in OPERATIONS.values() for item in operation["responses"].values()),
        )
        for content in holder.get("content", {}).values()
    ]

    assert contents
    assert all("example" in content or "examples" in content for content in contents)


def test_every_limit_of_the_settings_is_described() -> None:
    """A new limit shows in the status, so the contract has to say what it means."""
    described = set(CONTRACT["components"]["schemas"]["Limits"]["properties"])

    assert (settings_of(Limits).keys() - {"unauthenticated_share"}) | {"max_unauthenticated"} == described


def test_every_phase_is_described() -> None:
    """No other word can come."""
    assert [phase.value for phase in Phase] == CONTRACT["components"]["schemas"]["PhaseName"]["enum"]


# Live answers.


@pytest.fixture
async def surfaces() -> AsyncIterator[Surfaces]:
    """Three clients, one of them a probe, one that has said nothing yet."""
    surfaces = Surfaces()
    surfaces.clients(1)
    surfaces.world.client()
    probe = surfaces.world.client()
    probe.do("connect", token=surfaces.probe.issue(60).valid.connection)
    yield surfaces
    surfaces.world.assert_sound()


def nothing(_: Surfaces) -> None:
    """Leave it as it is."""


def gated(surfaces: Surfaces) -> None:
    """Close the gate."""
    surfaces.instance.lifecycle.gate(60, "for a test")


def announced(surfaces: Surfaces) -> None:
    """Announce something."""
    surfaces.instance.announcements.announce(b'{"type":"maintenance","state":"announced"}', 60)


def draining(surfaces: Surfaces) -> None:
    """Be in the middle of a drain."""
    surfaces.instance.drain(Origin.ADMIN, spread_seconds=10)
    surfaces.world.advance(4)


def drained(surfaces: Surfaces) -> None:
    """Have drained."""
    surfaces.instance.drain(Origin.ADMIN, spread_seconds=0)
    surfaces.world.advance(1)


def stopping(surfaces: Surfaces) -> None:
    """Be draining on SIGTERM."""
    surfaces.instance.drain(Origin.SIGNAL, spread_seconds=10)


def standing_by(surfaces: Surfaces) -> None:
    """Wait for another instance to go."""
    surfaces.enter(Phase.STANDBY)


def starting(surfaces: Surfaces) -> None:
    """Not be ready yet."""
    surfaces.enter(Phase.STARTING)


def ended(surfaces: Surfaces) -> None:
    """Be over."""
    surfaces.instance.close()


STATES = (nothing, gated, announced, draining, drained, stopping, standing_by, starting, ended)
ADMIN_OPERATIONS = [name for name, (_, path, _) in OPERATIONS.items() if path.startswith("/api/admin")]
CHANGES = [name for name in ADMIN_OPERATIONS if OPERATIONS[name][0] == "POST"]


@pytest.mark.parametrize("arrange", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("operation_id", OPERATIONS)
async def test_answer_is_described_in_every_state(surfaces: Surfaces, operation_id: str, arrange: Arrange) -> None:
    """Whatever the service is about, the answer has the shape that the contract gives it."""
    arrange(surfaces)

    answer = await ask(surfaces, operation_id)

    assert answer.status_code in (200, 409, 503)


@pytest.mark.parametrize("operation_id", CHANGES)
async def test_example_request_is_accepted(surfaces: Surfaces, operation_id: str) -> None:
    """The request in the contract is one that can be sent."""
    body = OPERATIONS[operation_id][2]["requestBody"]["content"]["application/json"]["example"]

    assert 200 == (await ask(surfaces, operation_id, body)).status_code


@pytest.mark.parametrize("operation_id", ADMIN_OPERATIONS)
async def test_request_without_a_key_is_described(surfaces: Surfaces, operation_id: str) -> None:
    """A refusal has the shape of a problem."""
    assert 401 == (await ask(surfaces, operation_id, headers={})).status_code


@pytest.mark.parametrize("operation_id", [name for name in OPERATIONS if name not in ADMIN_OPERATIONS])
async def test_observation_needs_no_key(surfaces: Surfaces, operation_id: str) -> None:
    """Platforms and Prometheus have none."""
    assert 200 == (await ask(surfaces, operation_id, headers={})).status_code


@pytest.mark.parametrize("operation_id", CHANGES)
@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"{", 400, id="not JSON"),
        pytest.param(b'{"reason":"\xff"}', 400, id="not UTF-8"),
        pytest.param(b'{"reason":"\\ud800"}', 400, id="half a character"),
        pytest.param(b"[" * 5000 + b"]" * 5000, 400, id="nested too deep"),
        pytest.param(b'{"unheard_of":1}', 422, id="unknown field"),
        pytest.param(b"[]", 422, id="not an object"),
        pytest.param(b'{"ttl_seconds":"120"}', 422, id="wrong type"),
        pytest.param(b'{"ttl_seconds":null}', 422, id="null"),
        pytest.param(b'{"ttl_seconds":0}', 422, id="out of range"),
        pytest.param(b" " * 65_537, 413, id="one byte too many"),
    ],
)
async def test_bad_request_is_described(surfaces: Surfaces, operation_id: str, content: bytes, status: int) -> None:
    """What is wrong with a request comes back as a problem, and nothing has changed."""
    before = await surfaces.status()

    answer = await ask(surfaces, operation_id, content=content)

    assert status == answer.status_code
    assert before == await surfaces.status()


@pytest.mark.parametrize("operation_id", CHANGES)
async def test_bounds_of_the_contract_are_those_of_the_service(surfaces: Surfaces, operation_id: str) -> None:
    """Each number is taken at its bound and refused past it."""
    schema = resolve(OPERATIONS[operation_id][2]["requestBody"]["content"]["application/json"]["schema"])
    for name, field in schema["properties"].items():
        bounds = resolve(field)
        # The budget has to hold the rest, whatever is tried.
        rest = {"budget_seconds": 3600} if operation_id == "drain" and name != "budget_seconds" else {}
        for value, status in _at_the_bounds(bounds):
            answer = await ask(surfaces, operation_id, {**rest, name: value})

            assert status == answer.status_code, (name, value, answer.text)


def _at_the_bounds(schema: dict[str, Any]) -> Iterator[tuple[object, int]]:
    if "minimum" in schema:
        yield schema["minimum"], 200
        yield schema["minimum"] - 0.001, 422
    if "exclusiveMinimum" in schema:
        yield schema["exclusiveMinimum"] + 0.001, 200
        yield schema["exclusiveMinimum"], 422
    if "maximum" in schema:
        yield schema["maximum"], 200
        yield schema["maximum"] + 0.001, 422
    if "maxLength" in schema:
        yield "x" * schema["maxLength"], 200
        yield "x" * (schema["maxLength"] + 1), 422
    if schema.get("minLength"):
        yield "", 422


@pytest.fixture(scope="module")
def application() -> Application:
    """The service as it is put together for real."""
    settings = Settings(
        admin=Admin(key=Secret(ADMIN_KEY)),
        tokens=Tokens(hmac_secret=Secret(ADMIN_KEY[::-1])),
        database=Database(url=Secret("memory:")),
    )
    return build(settings)


async def call(app: Litestar, operation_id: str) -> httpx.Response:
    """Call an operation on a socket, with the key."""
    method, path, _ = OPERATIONS[operation_id]
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # its own idea of ASGI types
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, headers={"X-Admin-Key": ADMIN_KEY})


@pytest.mark.parametrize("operation_id", OPERATIONS)
async def test_admin_socket_of_the_service_answers_everything(application: Application, operation_id: str) -> None:
    """All of the contract, also before the service has started."""
    answer = await call(application.admin, operation_id)

    assert_described(operation_id, answer)
    assert answer.status_code in (200, 409, 503)


@pytest.mark.parametrize("operation_id", OPERATIONS)
async def test_public_socket_of_the_service_answers_health_alone(application: Application, operation_id: str) -> None:
    """The rest does not exist there, whoever asks."""
    answer = await call(application.public, operation_id)

    if OPERATIONS[operation_id][1].startswith("/api/health"):
        assert_described(operation_id, answer)
    else:
        assert 404 == answer.status_code


def test_every_problem_is_provoked_somewhere() -> None:
    """The tests above cover each error that the contract knows."""
    described = {status for _, _, operation in OPERATIONS.values() for status in operation["responses"]}

    assert {"200", "503", *PROBLEMS} == described


def test_pushes_of_the_service_are_those_of_the_contract() -> None:
    """What the service itself says about maintenance has the described shape too."""
    surfaces = Surfaces()
    (client,) = surfaces.clients(1)
    surfaces.instance.announcements.announce(b'{"type":"maintenance","state":"announced"}', 60)
    surfaces.instance.announcements.cancel()
    surfaces.instance.drain(Origin.ADMIN, grace_seconds=1)

    pushes = [client.expect_push("message")["data"] for _ in range(3)]

    assert ["announced", "cancelled", "draining"] == [push["state"] for push in pushes]
    schema = {"$ref": "#/components/schemas/AnnouncementData"}
    assert [] == [violation for push in pushes for violation in violations(schema, push)]
