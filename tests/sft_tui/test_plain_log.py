"""A run's plain log: what `sft-tui logs` prints, on disk, whatever stands in its place or fails."""

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.events import Event, Record
from engine.contract.messages import Message
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir, create_run_dir
from engine.contract.stream import EventWriter
from engine.contract.texts import Lang
from sft_tui import listing
from sft_tui.history import Follower
from sft_tui.plain_log import PlainLog, complete
from sft_tui.runs import read_run

from .conftest import ENDED, EVAL, PLAN, STARTED, step

Put = Callable[..., Record]


def written(path: Path, *records: Record) -> str:
    log = PlainLog(path, "en")
    for record in records:
        log.show(record)
    log.close()
    return path.read_text(encoding="utf-8")


def test_the_plain_log_equals_the_output_of_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = create_run_dir(tmp_path / "logs", "sft-small")
    log = PlainLog(run_dir.plain_log, "en")
    stream = EventWriter(run_dir.events, "rank0", 1, log.show)
    for event in (STARTED, PLAN, *(step(n) for n in range(1, 61)), EVAL, ENDED):
        stream.write(event)
    listing.print_events(run_dir, "en", json=False)
    assert (tmp_path / "logs/sft-small-1.log").read_text() == capsys.readouterr().out
    assert "step  50/100" in run_dir.plain_log.read_text()


def test_a_later_attempt_is_appended(tmp_path: Path, record: Put) -> None:
    path = tmp_path / "a.log"
    first = written(path, record(EVAL))
    both = written(path, record(ENDED, attempt=2))
    assert both.startswith(first)
    assert len(both.splitlines()) > len(first.splitlines())


def test_a_truncated_line_is_ended_first(tmp_path: Path, record: Put) -> None:
    path = tmp_path / "a.log"
    path.write_text("step 1/1")
    assert written(path, record(EVAL)).splitlines()[0] == "step 1/1"


def test_foreign_text_is_harmless_in_the_plain_log(tmp_path: Path, record: Put) -> None:
    hostile = "\x1b]52;c;aGk=\x07\u202e\udce9\n"
    text = written(tmp_path / "a.log", record(events.Sample(1, 50, 3, hostile, hostile, hostile)))
    assert not set("\x1b\x07\u202e\udce9") & set(text)
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder", "no parent"])
def test_a_plain_log_that_is_not_a_regular_file_is_left_alone(tmp_path: Path, record: Put, kind: str) -> None:
    path, victim = tmp_path / "a.log", tmp_path / "victim"
    if kind == "link":
        victim.write_text("mine")
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = tmp_path / "absent/a.log"
    log = PlainLog(path, "en")
    log.show(record(EVAL))
    log.close()
    assert log.why
    assert (victim.read_text() if kind == "link" else not victim.exists()) in ("mine", True)


def test_lines_lost_to_a_full_disk_are_counted(tmp_path: Path, record: Put) -> None:
    path = tmp_path / "a.log"
    log = PlainLog(path, "en")
    log.show(record(EVAL))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        for number in (1, 50):
            log.show(record(step(number)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.show(record(ENDED))
    log.close()
    after = path.read_bytes()[size:].decode()
    assert after.startswith("2 lines could not be written here")


def test_a_new_run_does_not_write_into_an_old_log(tmp_path: Path) -> None:
    (tmp_path / "sft-small-3.log").write_text("kept")
    run_dir = create_run_dir(tmp_path, "sft-small")
    assert run_dir.plain_log == tmp_path / "sft-small-4.log"


def test_the_plain_log_is_next_to_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo-1").mkdir()
    monkeypatch.chdir(tmp_path / "demo-1")
    assert RunDir(Path()).plain_log == tmp_path / "demo-1.log"


def test_a_message_of_the_run_is_one_line(tmp_path: Path, record: Put) -> None:
    message = Message("folder_unwritable", {"path": "a\nb", "why": "no", "setting": "logs"})
    assert len(written(tmp_path / "a.log", record(events.Warning(message))).splitlines()) == 1


# A log whose writer was killed.

STORY = [
    STARTED,
    PLAN,
    *(step(number) for number in range(1, 61)),
    EVAL,
    events.Checkpoint(1, 60, "out/checkpoints/step-00000060", 240_000_000, 1.4, []),
]


def killed_after(
    run_dir: RunDir, lines: int, snapshot: int, *story: Event, lang: Lang = "en", torn: bool = False
) -> None:
    """Leaves what a supervisor leaves that was killed so far: its log, its older snapshot, and ranks that continued."""
    log, follower = PlainLog(run_dir.plain_log, lang), Follower(run_dir)
    stream = EventWriter(run_dir.events, "rank0", 1)
    for number, event in enumerate(story):
        stream.write(event)
        (record,) = follower.poll()
        if number < lines:
            log.show(record)
        if number == snapshot:
            follower.save()
    log.close()
    if torn:
        run_dir.plain_log.write_bytes(run_dir.plain_log.read_bytes()[:-9])


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """The folder of a new run with its record."""
    run_dir = create_run_dir(tmp_path / "logs", "sft-small")
    config = {**to_json(preset("sft-small").config), "output_dir": str(tmp_path / "out")}
    run_dir.write_record(RunRecord("sft-small-1", "sft-small", "train", config))
    return run_dir


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(("lines", "snapshot"), [(0, -1), (5, -1), (20, 3), (55, 54), (60, 30), (100, 30)])
def test_the_next_viewer_completes_the_log_of_a_killed_run(
    run_dir: RunDir, capsys: pytest.CaptureFixture[str], lines: int, snapshot: int, ended: bool
) -> None:
    killed_after(run_dir, lines, snapshot, *STORY, *([ENDED] * ended))  # by its ranks' word, or by nobody's
    looking = [threading.Thread(target=read_run, args=(run_dir,)) for _ in range(4)]
    for thread in looking:
        thread.start()
    for thread in looking:
        thread.join()
    read_run(run_dir)
    listing.print_events(run_dir, "en", json=False)
    assert run_dir.plain_log.read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_log_is_completed_in_its_language(run_dir: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    killed_after(run_dir, 63, 30, *STORY, ENDED, lang="zh")
    read_run(run_dir)
    listing.print_events(run_dir, "zh", json=False)
    assert run_dir.plain_log.read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_resume_completes_the_log_and_a_torn_line(run_dir: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    killed_after(run_dir, 55, 2, *STORY, torn=True)
    torn = run_dir.plain_log.read_text()
    complete(run_dir, "en")
    listing.print_events(run_dir, "en", json=False)
    whole = capsys.readouterr().out
    cut = len(torn) - len(torn.splitlines()[-1])
    assert run_dir.plain_log.read_text() == torn + "\n" + whole[cut:]


@pytest.mark.parametrize("place", ["removed", "a link", "a second name"])
def test_a_missing_or_unwritable_log_stays_as_it_is(run_dir: RunDir, tmp_path: Path, place: str) -> None:
    killed_after(run_dir, 5, 2, *STORY, ENDED)
    before = run_dir.plain_log.read_bytes()
    run_dir.plain_log.rename(tmp_path / "mine")
    if place == "a link":
        run_dir.plain_log.symlink_to(tmp_path / "mine")
    if place == "a second name":
        os.link(tmp_path / "mine", run_dir.plain_log)
    assert read_run(run_dir).status == "finished"
    assert (tmp_path / "mine").read_bytes() == before
    assert run_dir.plain_log.exists() == (place != "removed")
