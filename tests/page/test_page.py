from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from tests.page.conftest import OpenPage, launched, tab
from tests.support.process import ADMIN_KEY, API_KEY, ServiceProcess

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

MARKUP = '<img src="x" onerror="document.title = 1"><b>bold</b> &amp; <script>document.title = 2</script>'
HELD_MS = 5_000  # how long the page stays away when its line is dropped on purpose


async def join(page: Page, name: str, channel: str) -> None:
    """Connect as somebody and wait until the channel is joined."""
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("textbox", name="Channel").fill(channel)
    await page.get_by_role("button", name="Connect", exact=True).click()
    await expect(page.get_by_role("log")).to_contain_text(f"You joined {channel}")


async def publish(page: Page, text: str) -> None:
    """Write a message and send it with the keyboard."""
    await page.get_by_label("Message", exact=True).fill(text)
    await page.get_by_label("Message", exact=True).press("Enter")


def messages(page: Page) -> Any:  # noqa: ANN401 - a locator
    """Return the bodies of the messages in the feed."""
    return page.get_by_role("log").locator(".message-body")


async def call_api(service: ServiceProcess, method: str, **request: object) -> None:
    """Use the server API."""
    async with httpx.AsyncClient(base_url=service.url, headers={"X-API-Key": API_KEY}) as client:
        answer = await client.post(f"/api/{method}", json=request)
        assert answer.status_code == 200
        assert "error" not in answer.json()


async def test_page_shows_in_one_tab_what_another_publishes(open_page: OpenPage, channel: str) -> None:
    """Two people see each other come, and each what the other writes."""
    mira, jonas = await open_page(), await open_page()
    await join(mira, "Mira", channel)
    await join(jonas, "Jonas", channel)
    await expect(mira.get_by_role("status").filter(has_text="Connected")).to_be_visible()
    for page in (mira, jonas):
        await expect(page.locator("#people .person-name")).to_have_count(2)
        await expect(page.locator("#people")).to_contain_text("Mira")
        await expect(page.locator("#people")).to_contain_text("Jonas")
    await expect(mira.get_by_role("log")).to_contain_text("Jonas joined")

    await publish(mira, "the tide turns at 7:42")
    await expect(messages(jonas)).to_have_text(["the tide turns at 7:42"])
    await expect(messages(mira)).to_have_text(["the tide turns at 7:42"])
    await expect(jonas.locator(".message-author")).to_have_text(["Mira"])
    await expect(mira.locator("#delivery")).to_contain_text("delivered in")

    await jonas.get_by_role("button", name="Disconnect").click()
    await expect(mira.get_by_role("log")).to_contain_text("Jonas left")
    await expect(mira.locator("#people .person-name")).to_have_text(["Mira"])
    await expect(jonas.get_by_role("status").filter(has_text="Not connected")).to_be_visible()


async def test_page_shows_what_was_said_before_someone_came(open_page: OpenPage, channel: str) -> None:
    """A newcomer reads the last messages, oldest first."""
    mira = await open_page()
    await join(mira, "Mira", channel)
    for text in ("first", "second"):
        await publish(mira, text)
    await expect(messages(mira)).to_have_count(2)

    late = await open_page()
    await join(late, "Late", channel)

    await expect(messages(late)).to_have_text(["first", "second"])
    await expect(late.locator(".tag-mark")).to_have_text(["earlier", "earlier"])


async def test_page_shows_markup_as_text(open_page: OpenPage, service: ServiceProcess, channel: str) -> None:
    """Neither a payload nor a name nor the text of the server becomes an element."""
    page, other = await open_page(), await open_page()
    await join(page, "<b>Mira</b><img src=x>", channel)
    await join(other, "Jonas", channel)
    await publish(page, MARKUP)
    await expect(messages(other)).to_have_text([MARKUP])
    await call_api(service, "publish", channel=channel, data={"html": MARKUP, "n": 1})
    await expect(messages(other)).to_have_count(2)

    for tab_page in (page, other):
        assert await tab_page.locator("#feed b, #feed img, #feed script, #people b, #people img").count() == 0
        assert await tab_page.title() == "Slackwater"
    assert json.loads(await messages(other).nth(1).inner_text()) == {"html": MARKUP, "n": 1}
    await expect(other.locator("#people")).to_contain_text("<b>Mira</b><img src=x>")


async def test_page_recovers_what_it_missed(open_page: OpenPage, channel: str) -> None:
    """After a dropped line everything arrives, once, in order, and is marked as recovered."""
    mira, jonas = await open_page(), await open_page()
    await join(mira, "Mira", channel)
    await join(jonas, "Jonas", channel)
    await publish(jonas, "before")
    await expect(messages(mira)).to_have_text(["before"])

    await mira.get_by_role("button", name="Drop the line").click()
    await expect(mira.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
    await expect(mira.get_by_label("Message", exact=True)).to_be_disabled()
    for text in ("missed 1", "missed 2", "missed 3"):
        await publish(jonas, text)
    await expect(messages(jonas)).to_have_count(4)
    await mira.get_by_role("button", name="Now").click()

    await expect(mira.get_by_role("log")).to_contain_text(re.compile(r"Back after .* 3 missed messages recovered"))
    await expect(messages(mira)).to_have_text(["before", "missed 1", "missed 2", "missed 3"])
    await expect(mira.locator(".tag-mark")).to_have_text(["recovered"] * 3)
    await publish(jonas, "after")
    await expect(messages(mira)).to_have_text(["before", "missed 1", "missed 2", "missed 3", "after"])


async def test_page_comes_back_by_itself(open_page: OpenPage, channel: str) -> None:
    """Nobody has to press anything."""
    page = await open_page()
    await join(page, "Mira", channel)
    await page.get_by_role("button", name="Drop the line").click()

    await expect(page.get_by_role("log")).to_contain_text("Nothing was missed", timeout=HELD_MS + 10_000)
    await expect(page.get_by_role("status").filter(has_text=re.compile(r"^Connected$"))).to_be_visible()


async def test_page_is_taken_off_a_channel_by_the_server(
    open_page: OpenPage, service: ServiceProcess, channel: str
) -> None:
    """It says so and does not come back until asked to."""
    page = await open_page()
    async with page.expect_response("**/demo/token") as answered:
        await join(page, "Mira", channel)
    user = (await (await answered.value).json())["user"]
    await call_api(service, "unsubscribe", channel=channel, user=user)

    await expect(page.locator("#channel-problem")).to_contain_text("took you off this channel")
    await page.get_by_role("button", name="Join").click()
    await expect(page.get_by_label("Message", exact=True)).to_be_enabled()


async def test_page_token_opens_the_demo_namespace_alone(open_page: OpenPage, channel: str) -> None:
    """Another namespace is refused, in words and with the code of the protocol."""
    page = await open_page()
    await join(page, "Mira", channel)
    await page.get_by_role("textbox", name="Channel").fill("chat:everybody")
    await page.get_by_role("button", name="Switch").click()

    await expect(page.locator("#channel-problem")).to_contain_text("103 permission denied")


async def test_page_refuses_a_channel_name_that_cannot_be(open_page: OpenPage, channel: str) -> None:
    """What can never be right does not leave the page."""
    page = await open_page()
    await join(page, "Mira", channel)
    for wrong, complaint in (
        ("", "Give the channel a name"),
        ("demo lobby", "no spaces"),
        ("demo:café", "plain ASCII"),
        ("x:lobby", "namespace"),
        ("/demo", "does not begin with"),
    ):
        await page.get_by_role("textbox", name="Channel").fill(wrong)
        await page.get_by_role("textbox", name="Channel").press("Enter")
        await expect(page.get_by_role("alert").filter(has_text=complaint)).to_be_visible()

    await expect(page.get_by_role("button", name="Leave")).to_be_visible()


async def test_page_publishes_json(open_page: OpenPage, channel: str) -> None:
    """A payload can be any JSON; what is none stays in the box."""
    page = await open_page()
    await join(page, "Mira", channel)
    await page.get_by_label("as JSON").check()
    await publish(page, "{nonsense")
    await expect(page.get_by_role("alert").filter(has_text="This is not JSON")).to_be_visible()
    await publish(page, '{"berth": 12, "free": true}')

    await expect(messages(page)).to_have_count(1)
    assert json.loads(await messages(page).inner_text()) == {"berth": 12, "free": True}


async def test_page_explains_a_refused_publication(open_page: OpenPage, channel: str) -> None:
    """Too large: the words, the code, and the text is not lost."""
    page = await open_page()
    await join(page, "Mira", channel)
    text = "x" * 70_000
    await publish(page, text)

    await expect(page.locator("#publish-problem")).to_contain_text("107")
    assert await page.get_by_label("Message", exact=True).input_value() == text
    await expect(messages(page)).to_have_count(0)


async def test_page_keeps_a_bounded_feed(open_page: OpenPage, service: ServiceProcess, channel: str) -> None:
    """However much arrives, the page holds two hundred rows, the newest."""
    page = await open_page()
    await join(page, "Mira", channel)
    commands = [{"publish": {"channel": channel, "data": {"text": f"number {n}"}}} for n in range(260)]
    await call_api(service, "batch", commands=commands)

    await expect(messages(page).last).to_have_text(re.compile(r"number \d+"))
    await expect(page.locator("#feed-rows > li")).to_have_count(200)
    await expect(messages(page)).to_have_count(200)


async def test_page_draws_live_figures(open_page: OpenPage, channel: str) -> None:
    """The figures of the service appear with their thresholds, and move."""
    page = await open_page()
    await expect(page.locator("#phase")).to_have_text("Active, taking connections")
    connections = page.locator(".figure", has=page.get_by_role("heading", name="Connections"))
    await expect(connections.locator(".figure-value")).to_have_text("0")
    await join(page, "Mira", channel)

    await expect(connections.locator(".figure-value")).to_have_text("1")
    await expect(connections.locator(".figure-note")).to_contain_text("watch from 800")
    assert "L" in (await connections.locator(".sparkline-line").get_attribute("d") or "")
    meters = page.get_by_role("meter")
    await expect(meters).to_have_count(3)
    assert await meters.first.get_attribute("aria-valuemax") == "1000"
    memory = page.locator(".figure", has_text="Memory")
    await expect(memory.locator(".figure-value")).to_have_text(re.compile(r"\d+ MB"))
    await expect(page.locator(".figure", has_text="CPU").locator(".figure-note")).to_have_text("watch from 70 %")


async def test_page_shows_the_wire_without_the_token(open_page: OpenPage, channel: str) -> None:
    """The frames can be read by a developer; what signs in cannot."""
    page = await open_page()
    await join(page, "Mira", channel)
    await page.get_by_text("On the wire").click()

    frames = page.locator("#wire-rows code")
    await expect(frames.first).to_contain_text('"token":"…"')
    await expect(page.locator("#wire-rows")).to_contain_text('"recoverable":true')
    assert "eyJ" not in (await page.locator("#wire-rows").text_content() or "")


async def test_page_can_be_used_by_keyboard(open_page: OpenPage) -> None:
    """From the first key to a published message without a pointer."""
    page = await open_page()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the messages")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Keys")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("log")).to_contain_text("You joined")
    await page.get_by_role("log").focus()
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Message", exact=True)).to_be_focused()
    await page.keyboard.type("typed")
    await page.keyboard.press("Enter")

    await expect(messages(page)).to_have_text(["typed"])


async def test_page_announces_maintenance(browser: Browser, service: ServiceProcess) -> None:
    """An announcement shows as a banner, with markup as text; when it is called off, the banner goes."""
    async with tab(browser, "about:blank") as page:
        sockets = await mocked(page, service.url)
        await page.get_by_role("button", name="Connect", exact=True).click()
        await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
        banner = page.locator("#announcement")
        await expect(banner).to_be_hidden()

        announcement = {"type": "maintenance", "message": f"Back soon {MARKUP}", "at": 1_800_000_000}
        push(sockets[-1], message={"data": announcement})
        await expect(banner).to_contain_text(f"Back soon {MARKUP} · from 15 Jan 2027, 08:00")
        assert await banner.locator("img, b, script").count() == 0
        push(sockets[-1], message={"data": {"type": "maintenance", "state": "draining", "seconds": 2.5}})
        await expect(banner).to_contain_text("within 3 s")
        push(sockets[-1], message={"data": {"type": "maintenance", "state": "cancelled"}})
        await expect(banner).to_be_hidden()
        await expect(page.get_by_role("log")).to_contain_text("called off")


async def test_page_shows_what_an_operator_announces(
    open_page: OpenPage, service: ServiceProcess, channel: str
) -> None:
    """The admin API's announcement reaches the page, also one that comes later; withdrawn, it goes."""
    page = await open_page()
    await join(page, "Mira", channel)
    banner = page.locator("#announcement")
    body = {"message": "A new version", "starts_at": "2027-01-15T08:00:00Z", "duration_seconds": 600}
    async with httpx.AsyncClient(base_url=service.admin_url, headers={"X-Admin-Key": ADMIN_KEY}) as admin:
        assert (await admin.post("/api/admin/announce", json=body)).is_success
        await expect(banner).to_contain_text("A new version · from 15 Jan 2027, 08:00 · for about 10 min")
        late = await open_page()
        await join(late, "Late", channel)
        await expect(late.locator("#announcement")).to_contain_text("A new version")

        assert (await admin.delete("/api/admin/announce")).is_success
        await expect(banner).to_be_hidden()
        await expect(late.locator("#announcement")).to_be_hidden()


async def test_page_stays_away_after_a_terminal_close(browser: Browser, service: ServiceProcess) -> None:
    """It says why, and makes no further attempt however long it waits."""
    async with tab(browser, "about:blank") as page:
        sockets = await mocked(page, service.url)
        for attempt, code in enumerate((3500, 3503, 3999, 4500, 4999, 1009), start=1):
            await page.get_by_role("button", name="Connect", exact=True).click()
            await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
            await sockets[-1].close(code=code, reason="go away")
            await expect(page.get_by_role("status").filter(has_text="Not connected")).to_be_visible()
            await expect(page.locator("#connection-problem")).to_contain_text(str(code))
            await page.clock.fast_forward(120_000)

            await expect(page.get_by_role("button", name="Connect", exact=True)).to_be_visible()
            assert attempt == len(sockets), code


async def test_page_returns_with_its_position_after_a_close(browser: Browser, service: ServiceProcess) -> None:
    """The next connection asks for what came after the last offset, under the same epoch."""
    async with tab(browser, "about:blank") as page:
        sockets = await mocked(page, service.url)
        await page.get_by_role("button", name="Connect", exact=True).click()
        for attempt, code in enumerate((1001, 1012, 3000, 3001, 3012, 3499, 4000, 4499), start=1):
            await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
            push(sockets[-1], channel="demo:lobby", pub={"data": {"text": f"after {code}"}, "offset": 7 + attempt})
            await expect(messages(page).last).to_have_text(f"after {code}")
            await sockets[-1].close(code=code, reason="shutdown")
            await expect(page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
            await page.clock.fast_forward(2_000)

            await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
            assert attempt + 1 == len(sockets), code
            assert sockets.recovered[-1] == {"recover": True, "offset": 7 + attempt, "epoch": "abcdefgh"}


async def test_page_notices_a_service_that_went_quiet(browser: Browser, service: ServiceProcess) -> None:
    """It answers pings; when none come any more, it connects anew."""
    async with tab(browser, "about:blank") as page:
        sockets = await mocked(page, service.url)
        await page.get_by_role("button", name="Connect", exact=True).click()
        await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
        sockets[-1].send("{}")
        await expect(page.get_by_text("On the wire")).to_be_visible()
        await page.clock.fast_forward(36_000)
        await expect(page.get_by_role("log")).to_contain_text("gone quiet")
        await page.clock.fast_forward(2_000)

        await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
        assert len(sockets) == 2
        assert sockets.pongs == 1


async def test_page_says_what_could_not_be_recovered(browser: Browser, service: ServiceProcess) -> None:
    """A new epoch is a gap: the reader is told, and goes on from the top; what the old process announced is gone."""
    async with tab(browser, "about:blank") as page:
        sockets = await mocked(page, service.url)
        await page.get_by_role("button", name="Connect", exact=True).click()
        await expect(page.get_by_label("Message", exact=True)).to_be_enabled()
        push(sockets[-1], message={"data": {"type": "maintenance", "state": "draining", "seconds": 0.0}})
        await expect(page.locator("#announcement")).to_be_visible()
        sockets.epoch = "stuvwxyz"
        await sockets[-1].close(code=3001, reason="shutdown")
        await expect(page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
        await page.clock.fast_forward(2_000)

        await expect(page.get_by_role("log")).to_contain_text("could not be recovered; going on from #7")
        await expect(page.locator("#announcement")).to_be_hidden()


async def test_backoff_has_full_jitter(open_page: OpenPage) -> None:
    """Half a second and more at first, twice the reach with each attempt, twenty seconds at most."""
    page = await open_page()
    delays = await page.evaluate(
        """async () => {
            const { backoffDelay } = await import("/page/client.js");
            const at = (random) => [0, 1, 2, 3, 10, 1000].map((attempt) => backoffDelay(attempt, () => random));
            return { least: at(0), most: at(1) };
        }"""
    )

    assert delays == {"least": [500] * 6, "most": [1000, 1500, 2500, 4500, 20_000, 20_000]}


async def test_page_asks_for_a_token_outside_development() -> None:
    """It keeps what it was given in memory: not in the address, not in storage, not in the field."""
    environ = {"SLACKWATER_MODE": "production", "DEMO_PAGE": "true", "FRONTEND_URL": "http://slackwater.test"}
    async with (
        ServiceProcess.start(environ) as service,
        launched(f"--host-resolver-rules=MAP slackwater.test:80 127.0.0.1:{service.port}") as browser,
        tab(browser, "http://slackwater.test/") as page,
    ):
        token = service.token("42", info={"name": "Mira"})
        await expect(page.get_by_label("Your name")).to_be_hidden()
        await page.get_by_label("Connection token").fill(token)
        await page.get_by_role("button", name="Connect", exact=True).click()
        await expect(page.get_by_role("log")).to_contain_text("You joined demo:lobby")
        await publish(page, "signed in")
        await expect(messages(page)).to_have_text(["signed in"])
        await expect(page.locator(".message-author")).to_have_text(["Mira"])

        assert await page.get_by_label("Connection token").input_value() == ""
        assert page.url == "http://slackwater.test/"
        kept = await page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie, history.state]")
        assert kept == [{}, {}, "", None]
        assert token not in await page.content()


async def test_page_refuses_a_bad_token_in_words() -> None:
    """A token that the service does not accept ends the attempt; the page asks for another."""
    environ = {"SLACKWATER_MODE": "production", "DEMO_PAGE": "true", "FRONTEND_URL": "http://slackwater.test"}
    async with (
        ServiceProcess.start(environ) as service,
        launched(f"--host-resolver-rules=MAP slackwater.test:80 127.0.0.1:{service.port}") as browser,
        tab(browser, "http://slackwater.test/") as page,
    ):
        await page.get_by_label("Connection token").fill("not a token")
        await page.get_by_role("button", name="Connect", exact=True).click()

        await expect(page.locator("#connection-problem")).to_contain_text("3500")
        await expect(page.get_by_label("Connection token")).to_be_visible()


async def test_page_cannot_be_framed(service: ServiceProcess) -> None:
    """A page of another origin that puts it in a frame gets nothing to show."""
    # Otherwise Chromium refuses before it has read a header, because a page from elsewhere asks for one on loopback.
    async with launched("--disable-features=LocalNetworkAccessChecks") as browser:
        page = await browser.new_page()
        markup = f'<iframe src="{service.url}/"></iframe>'
        await page.route("http://other.test/", lambda route: route.fulfill(content_type="text/html", body=markup))
        async with page.expect_event("requestfailed") as refused:
            await page.goto("http://other.test/")
        request = await refused.value

        assert request.url == f"{service.url}/"
        assert request.failure == "net::ERR_BLOCKED_BY_RESPONSE"


async def test_page_is_absent_when_disabled() -> None:
    """Production serves no page unless told to."""
    async with ServiceProcess.start() as service, httpx.AsyncClient(base_url=service.url) as client:
        for path in ("/", "/page/page.js", "/page/page.css"):
            assert (await client.get(path)).status_code == 404
        answer = await client.post("/demo/token", headers={"Origin": service.url})
        assert answer.status_code == 404


async def test_page_token_is_refused_to_others(service: ServiceProcess) -> None:
    """On the running service: no Origin, a foreign one, and a foreign name that points here."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        assert (await client.post("/demo/token")).status_code == 403
        assert (await client.post("/demo/token", headers={"Origin": "http://evil.example"})).status_code == 403
        rebound = {"Host": f"evil.example:{service.port}", "Origin": f"http://evil.example:{service.port}"}
        assert 400 <= (await client.post("/demo/token", headers=rebound)).status_code < 500
        answer = await client.post("/demo/token", headers={"Origin": service.url})
        assert answer.status_code == 200
        assert answer.json()["channel"] == "demo:lobby"
        assert "frame-ancestors 'none'" in (await client.get("/")).headers["content-security-policy"]


class Sockets(list[WebSocketRoute]):
    """The connections that a page opened to a scripted service, oldest first.

    Attributes:
        epoch: Of the one channel there is, whose top is always offset 7.
        recovered: The recovery part of each subscribe command that had one.
        pongs: How many came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch = "abcdefgh"
        self.recovered: list[dict[str, Any]] = []
        self.pongs = 0

    def open(self, socket: WebSocketRoute) -> None:
        """Take a connection and answer its commands."""
        self.append(socket)
        socket.on_message(lambda text: self._answer(socket, str(text)))

    def _answer(self, socket: WebSocketRoute, text: str) -> None:
        for line in text.split("\n"):
            command = json.loads(line)
            if not command:
                self.pongs += 1
                continue
            number = command.pop("id")
            ((method, request),) = command.items()
            result: dict[str, Any] = getattr(self, f"_{method}", lambda _: {})(request)
            socket.send(json.dumps({"id": number, method: result}))

    def _connect(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"client": f"client-{len(self)}", "version": "scripted", "ping": 25, "pong": True}

    def _subscribe(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = {"recoverable": True, "positioned": True, "epoch": self.epoch, "offset": 7}
        asked: dict[str, Any] = {key: request[key] for key in ("recover", "offset", "epoch") if key in request}
        if asked:
            self.recovered.append(asked)
            is_same = asked["epoch"] == self.epoch
            answer |= {"was_recovering": True, "recovered": is_same, "offset": asked["offset"] if is_same else 7}
        return answer


def push(socket: WebSocketRoute, **content: object) -> None:
    """Send a push of the service."""
    socket.send(json.dumps({"push": content}))


async def mocked(page: Page, url: str) -> Sockets:
    """Open the page with a clock that tests move, and a scripted service behind its WebSocket."""
    sockets = Sockets()
    await page.clock.install()
    await page.route_web_socket(re.compile("/connection/websocket$"), sockets.open)
    await page.goto(url)
    return sockets
