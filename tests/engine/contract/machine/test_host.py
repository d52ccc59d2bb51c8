"""Readings never block or end the process that takes them, whatever the driver, the kernel or the processes do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract import events
from engine.contract.machine import gpus, host, other_gpus
from engine.contract.machine.host import GpuReader, HostReader, Monitor, Readings, Watched, oom_kills
from engine.contract.stream import EventReader, EventWriter
from tests import nvml
from tests.processes import until

LIMIT = 40.0  # seconds, for what takes a tenth of one; a driver that hangs does so for 60

Driver = Callable[[str], None]
Reader = Callable[[], GpuReader]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Gives the processes that are started from now on a driver that acts in the way named."""
    return lambda mode: nvml.use(monkeypatch, library, mode)


@pytest.fixture(autouse=True)
def _all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed is waited for, however slow the machine, since nothing may be left."""
    monkeypatch.setattr(host, "CLOSE_SECONDS", LIMIT)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Starts readers that are closed at the end, of which nothing is left then."""
    monkeypatch.setattr(host, "SILENT_SECONDS", LIMIT)  # a slow machine is not a driver that hangs
    before, readers = nvml.children(), list[GpuReader]()

    def one() -> GpuReader:
        readers.append(GpuReader())
        return readers[-1]

    yield one
    for reader in readers:
        reader.close()
        reader.close()  # a second time changes nothing
        assert reader.poll() == []
    assert nvml.children() <= before


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a child was started."""
    times: list[float] = []
    command = gpus.command

    def count(*options: str) -> list[str]:
        times.append(time.monotonic())
        return command(*options)

    monkeypatch.setattr(gpus, "command", count)
    return times


def poll(reader: GpuReader) -> list[events.Gpu]:
    """One call, which does not wait for anything."""
    began = time.monotonic()
    found = reader.poll()
    assert time.monotonic() - began < LIMIT
    return found


def first(reader: GpuReader) -> list[events.Gpu]:
    """The first readings that come."""
    found: list[events.Gpu] = []

    def came() -> bool:
        found.extend(poll(reader))
        return bool(found)

    until(came, LIMIT)
    return found


def gives_up(reader: GpuReader, starts: list[float]) -> None:
    """The reader starts a child four times in all, and none any more."""
    before = nvml.children()

    def done() -> bool:
        assert poll(reader) == []
        return len(starts) == 4 and reader._child is None

    until(done, LIMIT)
    assert [poll(reader) for _ in range(20)] == [[]] * 20
    assert len(starts) == 4
    until(lambda: poll(reader) == [] and nvml.children() <= before, LIMIT)


def test_readings_become_events(driver: Driver, start: Reader) -> None:
    driver("no_power")
    reader = start()
    assert reader.why
    one, two = first(reader)
    assert (one.index, two.index, one.name) == (0, 1, "NVIDIA GeForce RTX 3060")
    assert one.readings["memory_used"] == str(6 * 2**30)
    assert one.readings["power"] == "N/A: Not Supported"
    assert reader.why == ""


def test_foreign_names_survive_the_way_through_the_log(driver: Driver, start: Reader) -> None:
    driver("hostile_name")
    one, _ = first(start())
    line = events.encode(events.Record(events.Envelope("2026-01-01T00:00:00+00:00", 1.0, 1, "supervisor", 1), one))
    assert line.isascii()
    assert b"\x1b" not in line
    read = events.decode(line)
    assert read is not None
    assert read.event == one


def test_a_missing_driver_is_reported_once(driver: Driver, start: Reader, starts: list[float]) -> None:
    driver("mismatch")
    before, reader = nvml.children(), start()
    until(lambda: poll(reader) == [] and reader.why != "not read yet" and nvml.children() <= before, LIMIT)
    assert [poll(reader) for _ in range(20)] == [[]] * 20
    assert reader.why == "RM has detected an NVML/RM version mismatch."
    assert len(starts) == 1


def test_a_driver_that_hangs_from_the_start_is_given_up(
    driver: Driver, start: Reader, starts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("hang_init")
    monkeypatch.setattr(host, "SILENT_SECONDS", 0.1)
    reader = start()
    gives_up(reader, starts)
    assert reader.why == "the driver does not answer"


def test_a_driver_that_hangs_later_is_reported_and_asked_again(
    driver: Driver, start: Reader, starts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("hang_later")
    reader = start()
    assert len(first(reader)) == 2
    monkeypatch.setattr(host, "SILENT_SECONDS", 0.1)
    until(lambda: poll(reader) == [] and reader.why == "the driver does not answer", LIMIT)
    monkeypatch.setattr(host, "SILENT_SECONDS", LIMIT)
    assert len(first(reader)) == 2
    assert reader.why == ""
    assert len(starts) == 2


def test_a_machine_that_slept_is_not_a_hanging_driver(driver: Driver, start: Reader) -> None:
    driver("hang_later")
    reader = start()
    assert len(first(reader)) == 2
    reader._polled_at -= 3600.0
    assert poll(reader) == []
    assert reader.why == ""
    reader._polled_at -= 3600.0
    assert poll(reader) == []
    assert reader.why == "the driver does not answer"


def test_a_driver_that_crashes_each_time_is_given_up(driver: Driver, start: Reader, starts: list[float]) -> None:
    driver("segfault")
    reader = start()
    gives_up(reader, starts)
    assert reader.why == "the driver crashed (SIGSEGV)"


def test_a_driver_that_crashed_once_is_asked_again(
    driver: Driver, start: Reader, starts: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("segfault_once")
    monkeypatch.setenv("STUB_NVML_MARK", str(tmp_path / "mark"))
    reader = start()
    assert len(first(reader)) == 2
    assert reader.why == ""
    assert len(starts) == 2


def test_the_last_reason_is_reported(
    driver: Driver, start: Reader, starts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("hang_init")
    monkeypatch.setattr(host, "SILENT_SECONDS", 0.1)
    reader = start()
    until(lambda: poll(reader) == [] and reader.why == "the driver does not answer", LIMIT)
    monkeypatch.setattr(host, "SILENT_SECONDS", LIMIT)
    driver("segfault")
    gives_up(reader, starts)
    assert reader.why == "the driver crashed (SIGSEGV)"


def test_a_system_that_starts_no_process_gives_a_reason(start: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "command", lambda *_options: ["/nowhere/python"])
    reader = start()
    assert [poll(reader) for _ in range(5)] == [[]] * 5
    assert reader.why == "No such file or directory"


def prints(monkeypatch: pytest.MonkeyPatch, text: str, then: str) -> None:
    """Puts a child in the place of ours that prints this and continues with `then`."""
    program = f"import sys, time; sys.stdout.write({text!r}); sys.stdout.flush(); {then}"
    monkeypatch.setattr(gpus, "command", lambda *_options: [sys.executable, "-c", program])


def line(index: int) -> str:
    return f'{{"gpus": [{{"index": {index}, "name": "", "readings": {{}}}}], "why": ""}}\n'


def test_the_newest_of_several_lines_counts(start: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    prints(monkeypatch, line(1) + line(2) + line(3) + '{"gpus": [', "time.sleep(60)")
    assert [gpu.index for gpu in first(start())][-1] == 3


def test_the_last_line_of_an_ended_child_is_read(start: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    prints(monkeypatch, line(1), "sys.exit(3)")
    reader = start()
    assert [gpu.index for gpu in first(reader)] == [1]
    until(lambda: poll(reader) is not None and reader.why != "", LIMIT)
    assert reader.why == "the reading of the GPUs ended with exit code 3"


@pytest.mark.parametrize("text", ["nonsense\n", "[]\n", '{"gpus": 7, "why": ""}\n', '{"gpus": [7, {}], "why": ""}\n'])
def test_invalid_lines_are_skipped(start: Reader, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    prints(monkeypatch, text, "time.sleep(60)")
    reader = start()
    until(lambda: poll(reader) == [] and reader.why != "not read yet", LIMIT)


def test_an_unkillable_child_does_not_delay_the_end(
    driver: Driver, start: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("hang_init")
    monkeypatch.setattr(host, "CLOSE_SECONDS", 0.1)
    reader = start()
    child = reader._child
    assert child is not None
    with monkeypatch.context() as patch:
        patch.setattr(child, "kill", lambda: None)  # as it were
        patch.setattr(subprocess.Popen, "wait", held)
        reader.close()
    child.kill()
    child.wait()


def held(self: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
    assert timeout is not None
    assert timeout <= host.CLOSE_SECONDS
    raise subprocess.TimeoutExpired(self.args, timeout)


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_the_machine_and_each_process_in_order(tmp_path: Path) -> None:
    gone = sleeper()
    gone.kill()
    gone.communicate()
    reader = HostReader()
    reading = reader.read([gone.pid, os.getpid(), 0, -1, 2**40], tmp_path / "not" / "there" / "yet")
    assert reading.rank_memory[1] > 1_000_000
    assert reading.rank_memory[0] == 0
    assert reading.rank_memory[2:] == [0, 0, 0]
    assert 0 < reading.memory_available <= reading.memory_total
    assert 0 <= reading.cpu_percent <= 100
    assert reading.disk_available > 0


def test_a_run_without_a_supervisor_has_readings_in_its_stream(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    stream = tmp_path / "events.jsonl"
    monitor = Monitor(stream, 3, [os.getpid()], Watched(tmp_path))
    monitor.start()
    until(lambda: bool(EventReader(stream).poll()))
    monitor.stop()
    first = EventReader(stream).poll()[0]
    assert (first.envelope.attempt, first.envelope.src) == (3, "monitor")
    assert isinstance(first.event, events.Host)
    assert first.event.rank_memory[0] > 1_000_000
    assert set(psutil.Process().children()) <= before


def test_a_zombie_has_no_memory(tmp_path: Path) -> None:
    ended = sleeper()
    ended.kill()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert HostReader().read([ended.pid], tmp_path).rank_memory == [0]
    ended.communicate()


MB = 1_000_000
V2 = {
    "memory.max": f"{64 * MB}\n",
    "memory.current": f"{40 * MB}\n",
    "memory.stat": f"anon 1\ninactive_file {10 * MB}\n",
}
V1 = {
    "memory.limit_in_bytes": f"{64 * MB}\n",
    "memory.usage_in_bytes": f"{40 * MB}\n",
    "memory.stat": f"inactive_file 1\ntotal_inactive_file {10 * MB}\n",
}
NO_V2, NO_V1 = {**V2, "memory.max": "max\n"}, {**V1, "memory.limit_in_bytes": "9223372036854771712\n"}


@pytest.fixture
def container(tmp_path: Path) -> Callable[..., HostReader]:
    """A reader on a machine whose control groups hold these files."""

    def make(membership: str, files: dict[str, dict[str, str]]) -> HostReader:
        tree(tmp_path / "proc/self", {"cgroup": membership})
        for folder, contents in files.items():
            tree(tmp_path / "cgroup" / folder, contents)
        return HostReader(tmp_path / "proc", tmp_path / "cgroup")

    return make


def tree(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/\n", {".": V2}),  # a container sees its own as the topmost
        ("0::/user.slice/run.scope\n", {"user.slice/run.scope": V2}),
        ("0::/user.slice/run.scope\n", {"user.slice/run.scope": NO_V2, "user.slice": V2}),
        ("0::/docker/4f\n", {".": V2}),  # which is not the name that it has for the machine
        ("0::/../../docker/4f\n", {".": V2}),
        ("5:cpu:/x\n4:memory:/docker/4f\n", {"memory/docker/4f": V1}),
        ("4:hugetlb,memory:/docker/4f\n0::/\n", {"memory": V1, "unified": {}}),
        ("4:memory:/docker/4f\n", {"memory/docker/4f": NO_V1, "memory/docker": V1}),
    ],
)
def test_a_containers_limit_counts(
    container: Callable[..., HostReader], tmp_path: Path, membership: str, files: dict[str, dict[str, str]]
) -> None:
    reading = container(membership, files).read([], tmp_path)
    assert (reading.memory_total, reading.memory_available) == (64 * MB, 34 * MB)


def test_the_narrowest_limit_counts(container: Callable[..., HostReader], tmp_path: Path) -> None:
    full = {**V2, "memory.max": f"{90 * MB}\n", "memory.current": f"{99 * MB}\n", "memory.stat": ""}
    reading = container("0::/a/b\n", {"a/b": V2, "a": full}).read([], tmp_path)
    assert (reading.memory_total, reading.memory_available) == (64 * MB, 0)


def test_memory_beyond_a_limit_does_not_count(container: Callable[..., HostReader], tmp_path: Path) -> None:
    torn = {**V2, "memory.current": f"{5 * MB}\n"}  # read before its cache grew
    reading = container("0::/\n", {".": torn}).read([], tmp_path)
    assert (reading.memory_total, reading.memory_available) == (64 * MB, 64 * MB)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/\n", {".": NO_V2}),
        ("4:memory:/\n", {"memory": NO_V1}),
        ("0::/\n", {}),
        ("", {".": V2}),
        ("nonsense\n::\n4\n", {}),
        ("0::/\n", {".": {"memory.max": "\x00²\n", "memory.current": "x"}}),
    ],
)
def test_without_a_limit_it_is_the_machines_memory(
    container: Callable[..., HostReader], tmp_path: Path, membership: str, files: dict[str, dict[str, str]]
) -> None:
    assert container(membership, files).read([], tmp_path).memory_total == psutil.virtual_memory().total


@pytest.mark.parametrize("text", [None, "", "nonsense\n", "MemTotal: many kB\ncpu x\n"])
def test_an_unreadable_reading_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is not None:
        tree(tmp_path, {"meminfo": text, "stat": text})
    reader = HostReader(tmp_path, tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    monkeypatch.setattr(host, "free_bytes", unreadable)
    assert reader.read([os.getpid()], tmp_path) == events.Host(0, 0, [0], 0.0, 0)
    assert HostReader(tmp_path, tmp_path).read([], tmp_path).memory_total == 0


def unreadable(path: Path) -> int:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("vmstat", "membership", "files", "count"),
    [
        ("nr_free_pages 9\noom_kill 3\noom_kill_x 8\n", "", {}, 3),
        ("oom_kill 3\n", "0::/a\n", {"a": {"memory.events": "oom 9\noom_kill 2\noom_group_kill 7\n"}}, 3),
        ("oom_kill 0\n", "0::/a\n", {"a": {"memory.events": "oom 9\noom_kill 2\n"}}, 2),
        ("", "0::/a\n", {".": {"memory.events": "oom_kill 4\n"}}, 4),
        ("", "4:memory:/a\n", {"memory/a": {"memory.oom_control": "under_oom 0\noom_kill 5\n"}}, 5),
        ("oom_kill many\n", "0::/\n", {}, 0),
        ("", "", {}, 0),
    ],
)
def test_kills_for_lack_of_memory_are_counted_once(
    tmp_path: Path, vmstat: str, membership: str, files: dict[str, dict[str, str]], count: int
) -> None:
    tree(tmp_path / "proc", {"vmstat": vmstat})
    tree(tmp_path / "proc/self", {"cgroup": membership})
    for folder, contents in files.items():
        tree(tmp_path / "cgroup" / folder, contents)
    assert oom_kills(tmp_path / "proc", tmp_path / "cgroup") == count


def test_a_machine_without_counters_has_no_kills(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "proc", tmp_path / "cgroup") == 0
    assert oom_kills() >= 0


@pytest.fixture
def readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Readings, Path, list[events.Gpu]]]:
    """Readings of a machine whose GPUs answer what the list holds, and the stream they are written to."""
    answers: list[events.Gpu] = []
    monkeypatch.setattr(GpuReader, "_start", lambda _self: None)
    monkeypatch.setattr(GpuReader, "poll", lambda _self: list(answers))
    log = EventWriter(tmp_path / "events.jsonl", "supervisor", 1)
    taken = Readings(log, Watched(tmp_path))
    yield taken, tmp_path / "events.jsonl", answers
    taken.close()
    log.close()


def notes(stream: Path) -> list[str]:
    """The texts of notices and warnings."""
    found = [record.event for record in EventReader(stream).poll()]
    return [one.message.what() for one in found if isinstance(one, events.Notice | events.Warning)]


def test_a_gpu_that_is_lost_is_reported_once(readings: tuple[Readings, Path, list[events.Gpu]]) -> None:
    taken, stream, answers = readings
    answers.append(events.Gpu(1, "card", {"power": "148"}))
    taken.take([])
    answers[0] = events.Gpu(1, "N/A: GPU is lost", {"power": "N/A: GPU is lost"})
    for _ in range(3):
        taken.take([])
    (text,) = [one for one in notes(stream) if "lost" in one]
    assert text.startswith("GPU 1 (card) is lost")


def test_a_gpu_that_torch_cannot_use_is_mentioned_once(
    readings: tuple[Readings, Path, list[events.Gpu]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, stream, _ = readings
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(other_gpus, "unusable", lambda: "AMD")
    taken.take([])
    assert notes(stream) == []  # NVML has not answered yet: there may be another that is used
    taken._gpus.why = "NVML Shared Library Not Found"
    taken.take([])
    taken.take([])
    assert [one for one in notes(stream) if "AMD" in one] == [
        "A GPU of AMD is in this machine, and the installed PyTorch cannot use it: this run uses the CPU."
        " `sft-tui check` says what to do."
    ]


def test_readings_of_one_machine_of_several_have_its_name(readings: tuple[Readings, Path, list[events.Gpu]]) -> None:
    taken, stream, answers = readings
    taken._watched = Watched(taken._watched.disk, (1, 3), 1, "second")
    answers.append(events.Gpu(1, "card", {"power": "148"}))
    taken.take([os.getpid(), os.getpid()])
    answers[0] = events.Gpu(1, "N/A: GPU is lost", {"power": "N/A: GPU is lost"})
    taken.take([])
    found = [record.event for record in EventReader(stream).poll()]
    host, gpu = found[:2]
    assert isinstance(host, events.Host)
    assert (host.machine, host.node, [rank for rank, _ in host.memory_of_ranks]) == (1, "second", [1, 3])
    assert isinstance(gpu, events.Gpu)
    assert (gpu.machine, gpu.node) == (1, "second")
    assert notes(stream)[0].startswith("GPU 1 (card, second) is lost")
