"""A browser, and the page of a service that was started for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

from tests.support.process import ServiceProcess

OpenPage = Callable[[], Awaitable[Page]]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ACTION_MS = 15_000

_ARGUMENTS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Return the path of a Chromium; without one, skip, or fail where CI asks for all tests."""
    wanted = os.environ.get("CHROMIUM")
    found = wanted or next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"needs a Chromium: none of {', '.join(_NAMES)} on the PATH, and CHROMIUM is not set"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return found


@asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[Browser]:
    """Start a browser of its own; ``arguments`` come after those that every test needs."""
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*_ARGUMENTS, *arguments])
        yield browser
        await browser.close()


@asynccontextmanager
async def tab(browser: Browser, url: str) -> AsyncIterator[Page]:
    """Open a page that shares nothing with others, and see at the end that it had nothing to complain about."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def fail(error: Error) -> None:
        complaints.append(str(error))

    context = await browser.new_context(locale="en-GB", timezone_id="UTC")
    page = await context.new_page()
    page.set_default_timeout(_ACTION_MS)
    page.on("console", note)
    page.on("pageerror", fail)
    await page.goto(url)
    yield page
    await context.close()
    assert [] == complaints


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all; tabs share nothing."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[ServiceProcess]:
    """One service in development for all, as ``make run`` starts it; tests keep apart by their channels."""
    async with ServiceProcess.start({"SLACKWATER_MODE": "development"}) as process:
        yield process


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    """A channel that no other test uses."""
    return f"demo:{request.node.name}"


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser, service: ServiceProcess) -> AsyncIterator[OpenPage]:
    """Opens the page in another tab with every call."""
    async with AsyncExitStack() as tabs:

        async def another() -> Page:
            return await tabs.enter_async_context(tab(browser, service.url))

        yield another
