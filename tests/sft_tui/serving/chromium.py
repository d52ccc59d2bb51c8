"""A headless Chromium for tests, driven by its DevTools protocol."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pyte

from tests.required import required

BINARY = 2  # the kind of a frame of a websocket
LIMIT = 90.0  # seconds for a condition, on a machine that is busy with other tests
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """The browser of this machine."""
    return required(next((found for name in PROGRAMS if (found := shutil.which(name))), None), "chromium")


class Tab:
    """A tab of the browser; `requested` has every address that its page asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._last = socket, 0
        self._shown = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._shown)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requested: list[str] = []
        self.id = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Network.requestWillBeSent":
                self.requested.append(said["params"]["request"]["url"])
            elif said["method"] == "Network.webSocketCreated":
                address = said["params"]["url"]
                self.requested.append(address)
                size = {name: int(value) for name, value in parse_qsl(urlsplit(address).query)}
                self._shown = pyte.Screen(size["width"], size["height"])
                self._stream = pyte.ByteStream(self._shown)
            elif said["method"] == "Network.webSocketFrameReceived" and said["params"]["response"]["opcode"] == BINARY:
                self._stream.feed(base64.b64decode(said["params"]["response"]["payloadData"]))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a method of the protocol."""
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": self._last, "method": method, "params": parameters}))
        said = await asyncio.wait_for(answer, LIMIT)
        assert "result" in said, said
        found: dict[str, Any] = said["result"]
        return found

    async def value(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def open(self, address: str) -> None:
        """Opens an address."""
        for domain in ("Network", "Page", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=address)
        await self.call("Page.bringToFront")

    async def press(self, text: str) -> None:
        """Presses the keys of a text."""
        await self.call("Page.bringToFront")
        for character in text:
            for kind in ("keyDown", "keyUp"):
                typed = {"text": character} if kind == "keyDown" else {}
                await self.call("Input.dispatchKeyEvent", type=kind, key=character, **typed)

    def screen(self) -> str:
        """What the page's terminal was sent: it draws on a canvas, from which no text can be read."""
        return "\n".join(self._shown.display)

    async def until(self, holds: Callable[[str], object]) -> str:
        """Waits until the terminal shows what it should; returns it. Fails with what it shows instead."""
        shown = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                while not holds(shown := self.screen()):
                    await asyncio.sleep(0.1)
                return shown
        raise AssertionError(f"after {LIMIT} s the page shows: {shown}")


class Browser:
    """A running browser."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session, self._address = session, f"http://127.0.0.1:{port}"

    async def tab(self, address: str) -> Tab:
        """A new tab with a page."""
        async with self._session.put(f"{self._address}/json/new?about:blank") as answer:
            found = await answer.json(content_type=None)
        tab = Tab(await self._session.ws_connect(found["webSocketDebuggerUrl"], max_msg_size=0))
        tab.id = found["id"]
        await tab.open(address)
        return tab

    async def close(self, tab: Tab) -> None:
        """Closes a tab."""
        async with self._session.get(f"{self._address}/json/close/{tab.id}"):
            pass


@contextlib.asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions")
    process = subprocess.Popen(
        [
            program(),
            *options,
            *quiet,
            "--window-size=1300,900",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(LIMIT):
            while not (port_file.is_file() and port_file.read_text().strip()):
                assert process.poll() is None, "the browser ended at once"
                await asyncio.sleep(0.1)
        async with aiohttp.ClientSession() as session:
            yield Browser(session, int(port_file.read_text().split()[0]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
