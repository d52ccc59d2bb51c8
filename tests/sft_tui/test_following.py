"""A viewer without a screen: to the end of a run, and no further than its user wants."""

import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.events import Event, Record, encode
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.following import ended_in_order, follow
from sft_tui.headless import PlainView

from .conftest import ENDED, PLAN, STARTED, step

Put = Callable[..., Record]
READING = events.Host(16, 8, [1], 5.0, 100)
STOPPED = events.RunEnded("killed", 1, ENDED.message)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """The folder of a run that was recorded."""
    run_dir = RunDir(tmp_path / "sft-small-1")
    run_dir.path.mkdir()
    config = {**to_json(preset("sft-small").config), "output_dir": str(tmp_path / "out")}
    run_dir.write_record(RunRecord("sft-small-1", "sft-small", "train", config))
    return run_dir


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def put(run_dir: RunDir, record: Put, attempt: int, *story: Event) -> None:
    """Appends an attempt to the stream."""
    with run_dir.events.open("ab") as stream:
        stream.writelines(encode(record(event, attempt)) for event in story)


def shown(run_dir: RunDir, attempt: int = 0) -> tuple[int, str]:
    """The exit code of a viewer and what it printed."""
    out = io.StringIO()
    return follow(run_dir, PlainView("en", out, out), "en", attempt=attempt), out.getvalue()


def test_readings_after_the_end_do_not_undo_it(run_dir: RunDir, record: Put) -> None:
    put(run_dir, record, 1, STARTED, PLAN, step(1), ENDED, READING)
    code, text = shown(run_dir)
    assert code == 0
    assert "step   1/100" in text


def test_the_history_of_all_attempts_is_shown_and_the_last_end_counts(run_dir: RunDir, record: Put) -> None:
    put(run_dir, record, 1, STARTED, PLAN, step(1), STOPPED)
    put(run_dir, record, 2, STARTED, PLAN, step(50), ENDED)
    code, text = shown(run_dir)
    assert code == 0
    assert text.index("step   1/100") < text.index("step  50/100")
    assert "step   1/100" not in shown(run_dir, attempt=2)[1]


def test_a_viewer_with_a_full_output_leaves_the_run_running(
    run_dir: RunDir, record: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    put(run_dir, record, 1, STARTED, PLAN, step(1))
    assert follow(run_dir, PlainView("en", Full(), Full()), "en") == 0
    assert "sft-tui attach sft-small-1" in capsys.readouterr().err


def test_a_run_without_supervisor_is_certified_and_shown(run_dir: RunDir, record: Put) -> None:
    put(run_dir, record, 1, STARTED, PLAN, step(7))
    code, text = shown(run_dir)
    assert code == 1
    assert "killed at once" in text


def test_a_silent_supervisor_is_not_waited_for_forever(run_dir: RunDir) -> None:
    with pytest.raises(InputError, match=r"supervisor\.log"):
        shown(run_dir)


@pytest.mark.parametrize(
    ("answers", "asked", "left"),
    [([""], "", True), (["s", ""], "stop", True), (["c", ""], "", True), (["s", "n", ""], "stop", True)],
)
def test_ctrl_c_asks_before_it_stops_the_run(
    run_dir: RunDir,
    record: Put,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[str],
    asked: str,
    left: bool,
) -> None:
    put(run_dir, record, 1, STARTED, PLAN, *(step(number) for number in range(1, 5)))
    lock = FolderLock.acquire(run_dir.path, "sft-small-1", run_dir.path)
    given = iter(answers)
    monkeypatch.setattr("builtins.input", lambda _question: next(given))
    monkeypatch.setattr("sys.stdin", Terminal())
    out = io.StringIO()
    assert follow(run_dir, Again(out, run_dir, record), "en") == 0
    assert run_dir.stop_requested() == asked
    assert run_dir.now_request.exists() == ("n" in answers)
    assert ("sft-small-1 keeps running" in capsys.readouterr().err) == left
    lock.release()


class Terminal(io.StringIO):
    """A standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


class Again(PlainView):
    """Whose user presses Ctrl-C at every step, of which there is always one more."""

    def __init__(self, out: io.StringIO, run_dir: RunDir, record: Put) -> None:
        super().__init__("en", out, out)
        self._put: Any = lambda: put(run_dir, record, 1, step(9))

    def show(self, record: Record) -> None:
        super().show(record)
        if isinstance(record.event, events.Step):
            self._put()
            raise KeyboardInterrupt


class Lost:
    """What a signal reaches where Python can raise nothing."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_whose_exception_is_lost_is_raised_in_the_next_round(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    with ended_in_order(signal.SIGINT) as leaving:
        Lost(number)
        with pytest.raises(raised):
            leaving.check()


def test_a_signal_waits_until_nothing_is_left_half_done() -> None:
    with ended_in_order(signal.SIGINT) as leaving:
        with leaving.held():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            leaving.check()


def test_an_ignored_signal_remains_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_in_order() as leaving:
        signal.raise_signal(signal.SIGHUP)
        leaving.check()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
