"""The processes of an attempt: their environment, how each of them ended, and that nothing of them is left."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract.config import to_json
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.supervise import ranks
from sft_tui.supervise.ranks import Exit, Ranks
from tests.processes import gone, until

Started = Callable[..., Ranks]


def record_of(processes: int = 1) -> RunRecord:
    """A run of this many ranks."""
    config = to_json(preset("sft-small").config)
    return RunRecord("sft-small-1", "sft-small", "train", config, processes=processes, resume_option="go on")


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """Starts a Python program in place of the trainer, on this many ranks on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(ranks.MODULES, "train", "stand_in")
    begun: list[Ranks] = []

    def start(program: str, processes: int = 1) -> Ranks:
        (tmp_path / "stand_in.py").write_text(f"import os, signal, sys, time\n{program}\n")
        one = Ranks(RunDir(tmp_path), record_of(processes), 3, None)
        begun.append(one)
        one.start()
        return one

    yield start
    for one in begun:
        one.signal(signal.SIGKILL)
        until(lambda one=one: not one.reap() and not one.running())  # type: ignore[misc]


def all_ended(one: Ranks) -> list[Exit]:
    """How the ranks ended, by rank."""

    def ended() -> bool:
        one.reap()
        return not one.running()

    until(ended, 20)
    return sorted(one.exits, key=lambda end: end.rank)


def test_the_exit_of_every_rank_is_seen(run_program: Started) -> None:
    one = run_program(
        "rank = int(os.environ['RANK'])\nrank == 0 and sys.exit(7)\nrank == 1 and os.kill(os.getpid(), 11)", 3
    )
    assert all_ended(one) == [Exit(0, 7, False), Exit(1, -11, False), Exit(2, 0, False)]
    assert [end.signal_name for end in one.exits if end.rank == 1] == ["SIGSEGV"]


def test_ranks_that_we_end_are_marked_so(run_program: Started) -> None:
    one = run_program("print('up', flush=True); time.sleep(600)", 2)
    one.signal(signal.SIGKILL, [1])
    until(lambda: bool(one.reap()), 20)
    assert one.exits == [Exit(1, -9, True)]
    assert one.running() == [0]


def test_a_rank_that_had_ended_when_we_signalled_ended_by_itself(run_program: Started) -> None:
    one = run_program("sys.exit(7)")
    until(lambda: gone(one.pids[0]))
    one.signal(signal.SIGKILL)
    assert one.reap() == [Exit(0, 7, False)]


def test_the_ranks_get_their_numbers_and_a_meeting_point(run_program: Started, tmp_path: Path) -> None:
    names = [
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "SFT_TUI_SUPERVISOR",
        "SFT_TUI_ATTEMPT",
        "ACCELERATE_USE_CPU",
        "SFT_TUI_RENDEZVOUS",
    ]
    # In one write each: what two unbuffered processes print in pieces may mix within a line.
    line = f"' '.join([*(os.environ[n] for n in {names}), str(sys.stdin.read() == '')]) + '\\n'"
    all_ended(run_program(f"os.write(1, ({line}).encode())", 2))
    first, second = sorted(line.split() for line in (tmp_path / "trainer.log").read_text().splitlines())
    assert first[:6] == ["0", "0", "2", str(os.getpid()), "3", "true"]
    assert second[:6] == ["1", "1", "2", str(os.getpid()), "3", "true"]
    assert first[6:] == second[6:]
    assert first[6].startswith("file:///")


def test_a_single_rank_has_no_launcher_environment(
    run_program: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.setenv(name, "1")
    all_ended(
        run_program("print([n for n in os.environ if n in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') or 'ACCELERATE' in n])")
    )
    assert (tmp_path / "trainer.log").read_text() == "[]\n"


@pytest.fixture
def subreaper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process adopts orphans, and no more after the test; what other tests started and still need is spared."""
    others, clean_up = [child.pid for child in psutil.Process().children()], Ranks.clean_up
    monkeypatch.setattr(Ranks, "clean_up", lambda one, spared: clean_up(one, [*others, *spared]))
    ranks.adopt_orphans()
    yield
    ctypes.CDLL(None).prctl(ranks.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.usefixtures("subreaper")
def test_children_of_ranks_are_ended_too(run_program: Started) -> None:
    child = "import time; time.sleep(600)"

    def left() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # another one, which has ended by now
                found += [process] if child in process.cmdline() else []
        return found

    one = run_program(f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)")
    all_ended(one)
    until(lambda: bool(left()))
    one.clean_up(spared=())
    assert not left()


def test_a_suspended_rank_is_recognized(run_program: Started) -> None:
    one = run_program("time.sleep(600)", 2)
    one.signal(signal.SIGSTOP, [0])
    until(lambda: one.stopped(0), 20)
    assert not one.stopped(1)
    one.signal(signal.SIGCONT, [0])
    until(lambda: not one.stopped(0), 20)
