"""The screen in a browser: what the page shows and loads, who may connect, and what is left when it ends."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import psutil
import pytest
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from engine.contract.messages import InputError
from engine.contract.texts import LANGS, Lang, say
from sft_tui.cli import main
from sft_tui.serving import browser_server
from sft_tui.serving.browser_server import BrowserServer, Served, host_name, is_allowed, listening
from tests.processes import gone
from tests.sft_tui.serving.chromium import LIMIT, browser

TITLED = """(() => {
  const socket = new WebSocket(`ws://${location.host}/nothing?width=80&height=24`);
  const data = new TextEncoder().encode("x\\x1b]2;sft-tui: mine-3 40 %\\x1b\\\\y").buffer;
  socket.dispatchEvent(new MessageEvent("message", { data }));
  socket.close();
  return document.title;
})()"""  # the title after a message that has one


@contextlib.asynccontextmanager
async def admitted(address: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client that has opened the printed address, and the address without the token."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session, session.get(address) as answer:
        assert answer.status == 200
        yield session, str(answer.url)


@contextlib.asynccontextmanager
async def opened(server: BrowserServer) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of a server in this process that has opened the address with the token."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with TestClient(TestServer(server.app()), cookie_jar=jar) as client:
        assert (await client.get(f"/?token={server.served.token}")).status == 200
        yield client


@contextlib.asynccontextmanager
async def serving(folder: Path, *options: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A server in a process of its own in `folder`: its address, and the process; it is ended in order."""
    program = "from sft_tui.cli.main import main; main()"
    command = [sys.executable, "-u", "-c", program, "serve", "--port", "0", *options]
    with (folder / "serve.out").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env={**os.environ, "LC_ALL": "C.UTF-8"})
    try:
        deadline = time.monotonic() + LIMIT
        while not (lines := (folder / "serve.out").read_text().splitlines()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        yield lines[0], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LIMIT)
        finally:
            process.kill()
            process.wait()


async def soon(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not holds():
            await asyncio.sleep(0.05)


def test_a_browser_shows_the_screen_and_its_keys_reach_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with serving(tmp_path) as (address, server):
            async with browser(tmp_path / "profile") as chromium:
                tab = await chromium.tab(address)
                await tab.until(lambda shown: "? help" in shown)
                await tab.press("?")
                await tab.until(lambda shown: "┌ Keys" in shown)
                await tab.call(
                    "Emulation.setDeviceMetricsOverride", width=700, height=500, deviceScaleFactor=1, mobile=False
                )
                async with asyncio.timeout(LIMIT):  # the footer is not below the window
                    while not await tab.value("innerHeight === 500 && document.documentElement.scrollHeight === 500"):
                        await asyncio.sleep(0.1)
                assert all(one.partition("://")[2].startswith("127.0.0.1:") for one in tab.requested), tab.requested
                async with asyncio.timeout(LIMIT):
                    while not await tab.value("document.fonts.check('16px \"Roboto Mono\"')"):
                        await asyncio.sleep(0.1)
                other = await chromium.tab(address)
                await other.until(lambda shown: "? help" in shown)
                first, second = server.children()
                assert "┌ Keys" in tab.screen()  # each tab is a viewer of its own
                assert "┌ Keys" not in other.screen()
                assert await other.value(TITLED) == "sft-tui: mine-3 40 %"
                await chromium.close(other)
                await soon(lambda: len([one for one in (first, second) if one.is_running()]) == 1)
                await tab.press("?q")
                await soon(lambda: not server.children())
                async with asyncio.timeout(LIMIT):
                    while "-closed" not in await tab.value("document.body.className"):
                        await asyncio.sleep(0.05)
            left = server.children(recursive=True)
        assert not any(one.is_running() for one in left)

    asyncio.run(asyncio.wait_for(go(), 4 * LIMIT))


def test_viewers_end_with_the_server_and_odd_messages_are_ignored(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            serving(tmp_path) as (address, server),
            admitted(address) as (session, page),
            session.ws_connect(f"{page}ws?width=1e9&height=-4") as socket,
        ):
            for message in ("[]", "{}", "3", "not json", '["stdin"]', '["resize", {"width": "x"}]', '["stdin", 4]'):
                await socket.send_str(message)
            await socket.send_str('["ping", "here"]')
            while (said := await socket.receive(LIMIT)).type != aiohttp.WSMsgType.TEXT:
                assert said.type == aiohttp.WSMsgType.BINARY
            assert said.json() == ["pong", "here"]
            (viewer,) = server.children()
            server.terminate()
            await soon(lambda: gone(server.pid))
            await soon(lambda: gone(viewer.pid))

    asyncio.run(asyncio.wait_for(go(), 3 * LIMIT))


def test_viewers_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            serving(tmp_path) as (address, server),
            admitted(address) as (session, page),
            session.ws_connect(f"{page}ws") as socket,
        ):
            while b"\x1b]2;sft-tui\x1b\\" not in (said := await socket.receive(LIMIT)).data:  # whole, for title.js
                assert said.type == aiohttp.WSMsgType.BINARY
            (viewer,) = server.children()
            server.kill()
            await soon(lambda: gone(viewer.pid))

    asyncio.run(asyncio.wait_for(go(), 3 * LIMIT))


class SlowViewer:
    """A viewer that ends when it may."""

    may_end: ClassVar[asyncio.Event]
    stopped: ClassVar[asyncio.Event]

    def __init__(self, *_given: object) -> None:
        """Has no process."""

    async def start(self, *_size: int) -> None:
        """Starts nothing."""

    async def end(self) -> None:
        self.stopped.set()
        await asyncio.wait_for(self.may_end.wait(), 60)


def test_a_viewer_counts_until_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_server, "TabViewer", SlowViewer)

    async def go() -> None:
        SlowViewer.may_end, SlowViewer.stopped = asyncio.Event(), asyncio.Event()
        server = BrowserServer(Served("127.0.0.1", 0, tmp_path, "en"))
        async with opened(server) as client:
            async with client.ws_connect("/ws"):
                pass
            await asyncio.wait_for(SlowViewer.stopped.wait(), 30)
            assert len(server.viewers) == 1
            SlowViewer.may_end.set()
            await soon(lambda: not server.viewers)

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize(
    ("name", "served", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("::1", "127.0.0.1", True),
        ("evil.example", "127.0.0.1", False),
        ("10.0.0.7", "127.0.0.1", False),
        ("10.0.0.7", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        ("gpu.local", "gpu.local", True),
        ("", "127.0.0.1", False),
    ],
)
def test_a_server_answers_only_to_its_own_names(name: str, served: str, allowed: bool) -> None:
    assert is_allowed(name, served) == allowed


@pytest.mark.parametrize(
    ("host", "name"),
    [("localhost:8000", "localhost"), ("localhost", "localhost"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", "")],
)
def test_the_name_of_a_host_has_no_port(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    "path", ["/", "/ws", "/static/js/textual.js", "/?token=", "/?token=%F0%9F%98%80", "/ws?token={}"]
)
def test_who_lacks_the_token_gets_nothing(tmp_path: Path, path: str) -> None:
    async def go() -> None:
        server = BrowserServer(Served("127.0.0.1", 0, tmp_path, "en"))
        async with TestClient(TestServer(server.app())) as client:
            for cookie in ("", "wrong"):
                headers = {"Cookie": f"{server.served.cookie}={cookie}"}
                answer = await client.get(path.format(server.served.token), headers=headers)
                assert answer.status == 403
                assert "the whole address that `sft-tui serve` printed" in await answer.text()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_the_token_stays_in_no_address_and_in_no_script(tmp_path: Path) -> None:
    async def go() -> None:
        server = BrowserServer(Served("127.0.0.1", 0, tmp_path, "en"))
        async with opened(server) as client:
            answer = await client.get(f"/?token={server.served.token}&fontsize=20", allow_redirects=False)
            assert (answer.status, answer.headers["Location"]) == (302, "/?fontsize=20")
            assert "HttpOnly" in answer.headers["Set-Cookie"]
            assert server.served.token not in await (await client.get("/")).text()
            assert server.served.token not in repr(server.served)

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js"])
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}], ids=str
)
def test_a_page_of_another_site_gets_nothing(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    async def go() -> None:
        server = BrowserServer(Served("127.0.0.1", 0, tmp_path, "en"))
        async with opened(server) as client:
            assert (await client.get(path, headers=headers)).status == 403
            assert (await client.get("/")).status == 200

    asyncio.run(asyncio.wait_for(go(), 60))


def test_the_page_may_load_only_from_its_server(tmp_path: Path) -> None:
    async def go() -> None:
        server = BrowserServer(Served("127.0.0.1", 0, tmp_path, "zh", "light"))
        async with opened(server) as client:
            answer = await client.get("/?fontsize=<b>")
            page = await answer.text()
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert "http" not in page
            assert "<b>" not in page
            assert "运行会继续" in page
            assert (await client.get("/static/")).status in (403, 404)

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize("lang", LANGS)
def test_no_more_tabs_than_the_machine_can_bear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: Lang) -> None:
    async def go() -> None:
        server = BrowserServer(Served("127.0.0.1", 0, tmp_path, lang))
        async with opened(server) as client:
            monkeypatch.setattr(browser_server, "MOST_VIEWERS", 0)
            async with client.ws_connect("/ws") as socket:
                why = (await socket.receive()).extra or ""
            assert (socket.close_code, why) == (1013, say("serve.too_many", lang, most=0))
            assert len(why.encode()) < 124
            page = await client.get("/")
            assert (page.status, await page.text()) == (503, f"{why}\n")

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_port_in_use_is_refused_in_a_sentence() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
            listening("127.0.0.1", port)


def test_another_host_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_server, "serve", lambda _served, listener: listener.close())
    open_to_all = CliRunner().invoke(main.cli, ["serve", "--host", "0.0.0.0", "--port", "0"])
    assert "Warning" in open_to_all.stderr or "警告" in open_to_all.stderr
    local = CliRunner().invoke(main.cli, ["serve", "--port", "0"])
    assert "Warning" not in local.stderr
    assert "警告" not in local.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}\n", local.stdout)
