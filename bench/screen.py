"""Measures what the screen costs, on a pseudo-terminal with generated runs: `python -m bench.screen`.

Bytes are those that the app writes to its terminal; CPU time and memory are those of its process. The running job
writes three steps a second, a reading of the machine every two seconds, and a checkpoint occasionally.
"""

import argparse
import fcntl
import itertools
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from bench.machine import machine
from engine.contract import events
from engine.contract.config import to_json
from engine.contract.events import Envelope, Event, Record, encode
from engine.contract.locks import FolderLock
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui.history import Follower

COLUMNS, ROWS = 120, 40
PROGRAM = [sys.executable, "-m", "sft_tui"]
STEP_SECONDS = 1 / 3
WARM_SECONDS = 4.0
LIMITS = {
    "first paint": 0.7, "open 1,000,000 steps": 1.0, "running, bytes/s": 10_000, "running, CPU %": 3.0,
    "slow link, bytes/s": 4_000, "idle, bytes/s": 0.0, "longest stall, ms": 50.0, "memory, MB": 80.0,
    "memory growth, MB": 2.0,
}  # fmt: skip
LONGEST_KEY = 50.0  # milliseconds until a typed character is shown, or the chart of a long run answers a key
KEY_SIZES = ((120, 40), (200, 60))
# Keys of the chart, pressed one after another.
CHART_KEYS = {
    "cursor": [b"x", b"\x1b[D", b"\x1b[D", b"\x1b[1;2D", b"\x1b[D", b"\x1b[C", b"\x1b[1;2C", b"x"],
    "zoom": [b"+", b"+", b"+", b"\x1b[D", b"\x1b[D", b"-", b"-", b"-"],
    "smoothing": [b"+", b"+", b"+", b"+", b"+", b"]", b"]", b"[", b"[", b"[", b"]"],
    "metric": [b"m", b"m", b"m", b"m", b"M", b"M", b"M", b"M"],
}
CONFIG = replace(preset("sft-small").config, output_dir="out")


def step(number: int, total: int) -> events.Step:
    """A step event as a run writes it."""
    loss = 2.0 + 6.0 * 0.999 ** min(number, 9000) + (number * 7919 % 101) / 200
    rows = list(range(number % 997, number % 997 + 8))
    return events.Step(
        1 + (number - 1) * 3 // total, number, total, loss, 1e-3 / (1 + number / total), 1.0 + number % 7 / 10,
        700 + number % 90, 900 + number % 100, 1000 + number % 130, 0.001, 0.31, 0.012, 3, rows,
    )  # fmt: skip


def last_loss(steps: int) -> bytes:
    """What a screen of a run shows when it has read its last step."""
    return f"{step(steps, steps).loss:.4f}".encode()


def host(number: int) -> events.Host:
    """A reading of the machine."""
    used = 3_000_000_000 + number % 5 * 10_000_000
    return events.Host(
        16_000_000_000, 16_000_000_000 - 2 * used, [used, used + 4096], 97.0 - number % 3, 44_000_000_000
    )


def opening(total: int) -> Iterator[Event]:
    """The first events of a run."""
    yield events.RunStarted(
        "bench-1", "sft-small", "train", to_json(CONFIG), {}, {}, "", {}, 2, "cpu", 13_000_000_000, 44_000_000_000
    )
    yield events.Plan(5000, total // 3, total, 0, 16, 188_000_000, 94_000_000, "bf16", 512)
    yield events.Phase("training", 0, total)


def make_run(logs: Path) -> RunDir:
    """The folder of a run that has written nothing."""
    run_dir = RunDir(logs / "bench-1")
    run_dir.path.mkdir(parents=True)
    record = RunRecord("bench-1", "sft-small", "train", {**to_json(CONFIG), "output_dir": str(logs.parent / "out")})
    run_dir.write_record(record)
    return run_dir


def write_long(run_dir: RunDir, steps: int) -> int:
    """Writes a finished run of `steps` steps with its snapshot; returns the size of its log in bytes."""
    seq = itertools.count()

    def line(event: Event) -> bytes:
        return encode(Record(Envelope("2026-01-01T00:00:00.000Z", 0.0, 1, "rank0", next(seq)), event))

    with run_dir.events.open("wb") as file:
        file.writelines(line(event) for event in opening(steps))
        for number in range(1, steps + 1):
            file.write(line(step(number, steps)))
    follower = Follower(run_dir)
    while follower.poll(64 << 20):
        pass
    follower.save()
    return run_dir.events.stat().st_size


@dataclass
class Terminal:
    """The app on a pseudo-terminal."""

    pid: int
    fd: int
    seen: bytes = b""
    written: int = 0

    def read(self, seconds: float, until: Callable[[bytes], bool] | None = None) -> float:
        """Reads for `seconds`, or until the output satisfies `until`; returns the seconds it took."""
        began = time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                try:
                    data = os.read(self.fd, 1 << 16)
                except OSError:
                    break
                if not data:
                    break
                self.seen = (self.seen + data)[-(1 << 20) :]
                self.written += len(data)
                if until is not None and until(self.seen):
                    break
        return time.monotonic() - began

    def press(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self.fd, keys)


@contextmanager
def app(folder: Path, *arguments: str, size: tuple[int, int] = (COLUMNS, ROWS)) -> Iterator[Terminal]:
    """Starts the app on a terminal of this size in columns and lines, and ends it afterwards."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        known = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        inherited = {name: value for name, value in os.environ.items() if name not in ("TMUX", "COLUMNS", "LINES")}
        os.execve(PROGRAM[0], [*PROGRAM, *arguments], {**inherited, **known})
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    terminal = Terminal(pid, fd)
    try:
        yield terminal
    finally:
        os.kill(pid, signal.SIGTERM)
        ended = time.monotonic()
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            terminal.read(0.1)
            if time.monotonic() - ended > 10:
                os.kill(pid, signal.SIGKILL)
                print("  it did not end on SIGTERM", file=sys.stderr)
        os.close(fd)


def first_paint(folder: Path) -> float:
    """Seconds from the start of the process to the first screen with text."""
    with app(folder) as terminal:
        return terminal.read(20.0, lambda seen: b"quit" in seen)


def open_long(folder: Path, steps: int) -> tuple[float, float]:
    """Seconds to the screen of a long run with its last step, and the app's memory then, in MB."""
    with app(folder, "attach", "bench-1") as terminal:
        seconds = terminal.read(60.0, lambda seen: last_loss(steps) in seen)
        return seconds, psutil.Process(terminal.pid).memory_info().rss / 1e6


def running(folder: Path, run_dir: RunDir, seconds: float, *options: str) -> dict[str, float]:
    """Bytes and CPU time a second, memory and its growth, while a run writes."""
    total = 20_000
    log = EventWriter(run_dir.events, "rank0", 1)
    for event in opening(total):
        log.write(event)
    for number in range(1, 401):
        log.write(step(number, total))
    log.write(host(0))
    with app(folder, "attach", "bench-1", *options) as terminal:
        terminal.read(WARM_SECONDS)
        process = psutil.Process(terminal.pid)
        before, cpu, memory = terminal.written, sum(process.cpu_times()[:2]), process.memory_info().rss
        began, number = time.monotonic(), 400
        while time.monotonic() - began < seconds:
            number += 1
            log.write(step(number, total))
            if number % 6 == 0:
                log.write(host(number))
            if number % 30 == 0:
                log.write(events.Checkpoint(1, number, "out/checkpoints/x", 240_000_000, 1.2, []))
            terminal.read(STEP_SECONDS)
        spent = time.monotonic() - began
        used = sum(process.cpu_times()[:2]) - cpu
        rss = process.memory_info().rss
        log.close()
        return {
            "bytes": (terminal.written - before) / spent,
            "cpu": 100 * used / spent,
            "memory": rss / 1e6,
            "growth": (rss - memory) / 1e6,
        }


def idle(folder: Path, seconds: float) -> float:
    """Bytes a second that the app writes while nothing happens."""
    with app(folder) as terminal:
        terminal.read(WARM_SECONDS + 4)
        before = terminal.written
        terminal.read(seconds)
        return (terminal.written - before) / seconds


def stall(folder: Path) -> float:
    """The longest wait for the response to a key while a long log without a snapshot is read, in milliseconds."""
    waits = []
    with app(folder, "attach", "bench-1") as terminal:
        terminal.read(10.0, lambda seen: b"Loss" in seen)
        for _ in range(30):
            before = terminal.written
            terminal.press(b"m")
            waits.append(terminal.read(5.0, lambda _seen, before=before: terminal.written > before))  # type: ignore[misc]
            terminal.read(0.05)
    return 1000 * max(waits)


def chart_keys(folder: Path, steps: int, size: tuple[int, int]) -> Iterator[tuple[str, float]]:
    """The usual wait for the response to keys of each kind on the chart of a long run, in milliseconds."""
    with app(folder, "attach", "bench-1", size=size) as terminal:
        terminal.read(60.0, lambda seen: last_loss(steps) in seen)
        terminal.read(1.0)
        terminal.press(b"3")
        terminal.read(1.0)
        for name, keys in CHART_KEYS.items():
            waits = []
            for key in keys:
                before = terminal.written
                terminal.press(key)
                waits.append(terminal.read(5.0, lambda _seen, before=before: terminal.written > before))  # type: ignore[misc]
                terminal.read(0.2)
            yield f"key {name} {size[0]}x{size[1]}, ms", 1000 * statistics.median(waits)


TYPED = b"learning rate of the run"
# Where words are typed while a run is shown: the keys that lead there.
PLACES = {"search of the log": (b"/",), "note": (b"e",), "search of the settings": (b"S", b"/")}


@contextmanager
def writing(run_dir: RunDir, total: int) -> Iterator[None]:
    """A run that writes steps while the block is carried out."""
    log, over = EventWriter(run_dir.events, "rank0", 1), threading.Event()
    for event in (*opening(total), *(step(number, total) for number in range(1, 401)), host(0)):
        log.write(event)

    def write() -> None:
        for number in itertools.count(401):
            if over.wait(STEP_SECONDS):
                return
            log.write(step(number, total))
            if number % 6 == 0:
                log.write(host(number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        log.close()


def typing(folder: Path, run_dir: RunDir) -> Iterator[tuple[str, float]]:
    """Waits for the response to typed characters while a run writes three steps a second, in milliseconds."""
    for place, keys in PLACES.items():
        with writing(run_dir, 20_000), app(folder, "attach", "bench-1") as terminal:
            terminal.read(WARM_SECONDS)
            for key in keys:
                terminal.press(key)
                terminal.read(2.0)
            waits = []
            for number in range(len(TYPED)):
                before = terminal.written
                terminal.press(TYPED[number : number + 1])
                waits.append(terminal.read(5.0, lambda _seen, before=before: terminal.written > before))  # type: ignore[misc]
                terminal.read(0.1)
            yield f"typing, {place}, ms", 1000 * statistics.median(waits)
            yield f"worst typing, {place}, ms", 1000 * max(waits)


def measure(steps: int, seconds: float) -> Iterator[tuple[str, float]]:
    """All figures, with their names."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield "first paint", statistics.median(first_paint(folder) for _ in range(5))
        yield "idle, bytes/s", idle(folder, seconds / 2)
        run_dir = make_run(folder / "logs")
        lock = FolderLock.acquire(run_dir.path, "bench-1", run_dir.path)
        try:
            found = running(folder, run_dir, seconds)
            slow = running(folder, run_dir, seconds, "--slow-link")
            yield from typing(folder, run_dir)
        finally:
            lock.release()
        yield "running, bytes/s", found["bytes"]
        yield "running, CPU %", found["cpu"]
        yield "slow link, bytes/s", slow["bytes"]
        yield "memory growth, MB", found["growth"]
        size = write_long(run_dir, steps)
        print(f"  a log of {size / 1e9:.2f} GB, {steps:,} steps", file=sys.stderr)
        opened = [open_long(folder, steps) for _ in range(3)]
        yield f"open {steps:,} steps", statistics.median(seconds for seconds, _ in opened)
        yield "memory, MB", max(memory for _, memory in opened)
        for columns_and_lines in KEY_SIZES:
            yield from chart_keys(folder, steps, columns_and_lines)
        run_dir.snapshot.unlink()
        yield "longest stall, ms", stall(folder)


def main() -> int:
    """Prints the table; returns 1 if a limit is exceeded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=20.0)
    given = options.parse_args()
    print(machine())
    passed = True
    for name, value in measure(given.steps, given.seconds):
        limit = LONGEST_KEY if name.startswith(("key ", "typing", "worst")) else LIMITS.get(name)
        good = limit is None or value <= limit
        passed &= good
        bound = "" if limit is None else f"<= {limit:g}"
        print(f"{name:<42} {value:>12,.2f}  {bound}  {'' if good else 'MISSED'}".rstrip(), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
