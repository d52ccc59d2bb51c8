"""The server's side of a viewer: its process, and the packets that the two exchange, as Textual's web driver has them.

A packet is its kind (one byte), the length of its content (four bytes), and the content.
"""

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

from aiohttp import web

DRIVER = "TEXTUAL_DRIVER"  # variable that tells a viewer to speak in packets
SPOKEN = {
    DRIVER: "textual.drivers.web_driver:WebDriver",
    "TEXTUAL_FPS": "60",
    "TEXTUAL_COLOR_SYSTEM": "truecolor",
    "TERM": "xterm-256color",  # the tab's terminal, which has a title, and not the one in which the server runs
}
BEGIN = b"__GANGLION__\n"  # the line after which packets come
DATA, META = b"D", b"M"
END_SECONDS = 5.0  # for a viewer to end after its tab was closed


class TabViewer:
    """A viewer, and the tab that shows what it draws."""

    def __init__(self, command: Sequence[str], tab: web.WebSocketResponse) -> None:
        self._command, self._tab = command, tab
        self._process: Process | None = None
        self._passing: asyncio.Task[None] | None = None

    @property
    def code(self) -> int | None:
        """The exit code of its process, as subprocess has it; None while there is none."""
        return self._process.returncode if self._process is not None else None

    async def start(self, columns: int, lines: int) -> None:
        """Starts its process."""
        environment = {**os.environ, **SPOKEN, "COLUMNS": str(columns), "ROWS": str(lines)}
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, env=environment)
        self._passing = asyncio.create_task(self._pass_on(self._process))

    async def type(self, typed: str) -> None:
        """Passes on what was typed."""
        await self._send(DATA, typed.encode("utf-8", "replace"))

    async def tell(self, kind: str, **more: Any) -> None:
        """Tells it of an event of the tab."""
        await self._send(META, json.dumps({"type": kind, **more}).encode())

    async def _send(self, kind: bytes, content: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):  # it has ended
                self._process.stdin.write(kind + len(content).to_bytes(4, "big") + content)
                await self._process.stdin.drain()

    async def _pass_on(self, process: Process) -> None:
        """Passes on what it draws until it ends, and then closes the tab."""
        drawn = process.stdout
        assert drawn is not None
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            await drawn.readuntil(BEGIN)
            while True:
                head = await drawn.readexactly(5)
                content = await drawn.readexactly(int.from_bytes(head[1:], "big"))
                if head[:1] == DATA:
                    with contextlib.suppress(OSError):  # the tab is closed; it still ends in order
                        await self._tab.send_bytes(content)
                elif head[:1] == META and json.loads(content).get("type") == "exit":
                    break
        with contextlib.suppress(OSError):
            await self._tab.close()
        while await drawn.read(1 << 16):  # what is left must not keep it from ending
            pass

    async def end(self) -> None:
        """Asks it to end, and kills it if it does not within some seconds."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self.tell("quit")
                await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if self._passing is not None:
            await asyncio.wait([self._passing], timeout=END_SECONDS)
            self._passing.cancel()
