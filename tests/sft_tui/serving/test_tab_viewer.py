"""A viewer behind a tab: what it draws reaches the tab, what is typed reaches it, and it never outlives its end."""

import asyncio
import sys
from typing import Any

import pytest

from sft_tui.serving import tab_viewer
from sft_tui.serving.tab_viewer import TabViewer

# Draws what it is sent, until it is asked to quit; with `deaf` it does not even then.
SPEAKER = """
import json, os, sys, time
def send(kind, content):
    os.write(1, kind + len(content).to_bytes(4, "big") + content)
def receive():
    head = sys.stdin.buffer.read(5)
    return head[:1], sys.stdin.buffer.read(int.from_bytes(head[1:], "big"))
print("a warning on its standard output")
sys.stdout.flush()
os.write(1, b"__GANGLION__\\n")
send(b"D", f"{os.environ['COLUMNS']}x{os.environ['ROWS']}".encode())
while True:
    kind, content = receive()
    if kind == b"M" and json.loads(content)["type"] == "quit":
        if "deaf" in sys.argv:
            time.sleep(600)
        send(b"M", b'{"type": "exit"}')
        break
    send(b"D", content)
    if content == b"much":
        send(b"D", b"x" * 2_000_000)
"""


class Tab:
    """A tab that keeps what it is sent; closed, it takes no more."""

    def __init__(self) -> None:
        self.shown = b""
        self.closed = asyncio.Event()
        self.drawn = asyncio.Event()

    async def send_bytes(self, content: bytes) -> None:
        if self.closed.is_set():
            raise ConnectionResetError
        self.shown += content
        self.drawn.set()

    async def close(self) -> None:
        self.closed.set()

    async def until(self, words: bytes) -> None:
        async with asyncio.timeout(30):
            while words not in self.shown:
                self.drawn.clear()
                await self.drawn.wait()


def viewer(tab: Any, *arguments: str) -> TabViewer:
    return TabViewer([sys.executable, "-c", SPEAKER, *arguments], tab)


def test_keys_reach_it_and_what_it_draws_reaches_the_tab() -> None:
    async def go() -> None:
        tab = Tab()
        one = viewer(tab)
        await one.start(100, 30)
        await tab.until(b"100x30")
        await one.type("é\ud800")  # half of a pair, as a page may send it
        await tab.until("é?".encode())
        await one.tell("resize", width=80, height=24)
        await tab.until(b'{"type": "resize", "width": 80, "height": 24}')
        await one.end()
        await asyncio.wait_for(tab.closed.wait(), 30)
        await one.type("after its end")
        await one.end()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_it_ends_in_order_though_its_tab_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tab_viewer, "END_SECONDS", 30)

    async def go() -> None:
        tab = Tab()
        one = viewer(tab)
        await one.start(80, 24)
        await tab.until(b"80x24")
        await tab.close()
        await one.type("much")
        await one.end()
        assert one.code == 0

    asyncio.run(asyncio.wait_for(go(), 60))


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tab_viewer, "END_SECONDS", 0.2)

    async def go() -> None:
        tab = Tab()
        one = viewer(tab, "deaf")
        await one.start(80, 24)
        await tab.until(b"80x24")
        await one.end()
        assert one.code == -9

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_program_that_is_no_viewer_closes_its_tab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tab_viewer, "END_SECONDS", 0.2)

    async def go() -> None:
        tab = Tab()
        one = TabViewer([sys.executable, "-c", "print('x' * 1_000_000)"], tab)  # type: ignore[arg-type]
        await one.start(80, 24)
        await asyncio.wait_for(tab.closed.wait(), 30)
        await one.end()
        assert tab.shown == b""

    asyncio.run(asyncio.wait_for(go(), 60))
