"""The runs in a folder: which one is meant, how it is, and the certificate of one that nobody is left to speak for."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.contract import events
from engine.contract.bounds import as_json
from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.events import Envelope, Eval, Event, Record, encode
from engine.contract.launch import OURS, Launch
from engine.contract.locks import FolderLock, Holder, holder_of
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.presets import preset
from engine.contract.processes import ProcessId
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, EventWriter
from sft_tui import listing, removal
from sft_tui.cli import main, showing
from sft_tui.feed import Feed
from sft_tui.following import follow
from sft_tui.headless import PlainView
from sft_tui.history import Follower
from sft_tui.runs import all_runs, find, followed, others_running, read_run, require_readable, stop
from tests.permissions import enforced

from .conftest import ENDED, EVAL, OLD_EVAL, PLAN, STARTED, moved_elsewhere, step

NewRun = Callable[..., RunDir]


@pytest.fixture
def new_run(tmp_path: Path) -> NewRun:
    """A run in `logs`, with events of its attempts."""

    def make(name: str, *attempts: list[Event], job: str = "train", age: int = 0) -> RunDir:
        run_dir = RunDir(tmp_path / "logs" / name)
        run_dir.path.mkdir(parents=True)
        config = {**to_json(preset("sft-small").config), "output_dir": str(tmp_path / "out" / name)}
        run_dir.write_record(RunRecord(name, "sft-small", job, config, resume_option=f"sft-tui resume {name}"))
        lines = [
            encode(Record(Envelope("2026-01-01T00:00:00+00:00", 1.0, number, "rank0", place), event))
            for number, attempt in enumerate(attempts, 1)
            for place, event in enumerate(attempt)
        ]
        run_dir.events.write_bytes(b"".join(lines))
        os.utime(run_dir.record, (1_700_000_000 - age, 1_700_000_000 - age))
        return run_dir

    return make


def ends(run_dir: RunDir) -> list[events.RunEnded]:
    """The certificates in its stream."""
    return [r.event for r in EventReader(run_dir.events).poll() if isinstance(r.event, events.RunEnded)]


def test_without_a_name_the_newest_run_is_meant(new_run: NewRun, tmp_path: Path) -> None:
    for name, age in (("sft-small-1", 0), ("sft-2", 50), ("demo-1", 10)):
        new_run(name, [ENDED], age=age)
    (tmp_path / "logs" / "notes").mkdir()
    assert find(tmp_path / "logs", None).path.name == "sft-small-1"
    assert [run.name for run in all_runs(tmp_path / "logs")] == ["sft-small-1", "demo-1", "sft-2"]


def test_a_run_is_found_by_its_name_or_its_folder(new_run: NewRun, tmp_path: Path) -> None:
    run_dir = new_run("sft-2", [ENDED])
    assert find(tmp_path / "logs", "sft-2") == run_dir
    assert find(tmp_path / "elsewhere", str(run_dir.path)).path == run_dir.path


def test_plain_logs_are_not_listed_as_runs(new_run: NewRun, tmp_path: Path) -> None:
    new_run("sft-2", [ENDED]).plain_log.write_text("step 1")
    (tmp_path / "logs/sft-3.log").write_text("of a run that was deleted")
    assert [run.name for run in all_runs(tmp_path / "logs")] == ["sft-2"]


def test_a_plain_log_is_deleted_with_its_run_and_no_other(new_run: NewRun, tmp_path: Path) -> None:
    for name in ("sft-2", "sft-21"):
        new_run(name, [ENDED]).plain_log.write_text("step 1")
    removal.remove(read_run(find(tmp_path / "logs", "sft-2")))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["sft-21", "sft-21.log"]


def test_the_certificate_of_a_lost_run_is_in_its_plain_log(new_run: NewRun) -> None:
    run_dir = new_run("sft-2", [STARTED, PLAN, step(3)])
    read_run(run_dir)
    assert "Every process of the run was killed at once" in run_dir.plain_log.read_text()


def test_an_unknown_run_name_is_refused_with_the_nearest(new_run: NewRun, tmp_path: Path) -> None:
    for name in ("sft-small-1", "pretrain-1"):
        new_run(name, [ENDED])
    with pytest.raises(InputError, match="sft-small-1"):
        find(tmp_path / "logs", "sft-smal-1")
    with pytest.raises(InputError, match="no runs"):
        find(tmp_path / "none", None)


def test_an_unreadable_record_hides_no_other_run(new_run: NewRun, tmp_path: Path) -> None:
    new_run("sft-1", [ENDED]).record.write_text("{")
    new_run("sft-2", [ENDED])
    found = {run.name: run for run in all_runs(tmp_path / "logs")}
    assert (found["sft-1"].status, found["sft-2"].status) == ("unreadable", "finished")


def test_a_run_with_an_end_is_not_certified_again(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(5), ENDED])
    run = read_run(run_dir)
    assert (run.alive, run.status, len(ends(run_dir))) == (False, "finished", 1)
    assert run.to_json()["exit_code"] == 0


def test_a_run_without_supervisor_is_certified_once(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(5), ENDED], [STARTED, PLAN, step(7)])
    looking = [threading.Thread(target=read_run, args=(run_dir,)) for _ in range(8)]
    for thread in looking:
        thread.start()
    for thread in looking:
        thread.join()
    _, lost = ends(run_dir)
    assert (lost.reason, lost.exit_code) == ("killed", 1)
    assert "step 7" in lost.message.what()
    assert "sft-tui resume sft-1" in lost.message.fix()
    assert read_run(run_dir).status == "killed"


def test_a_restart_of_the_machine_is_recognized_by_the_boot_id(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    holder = {"pid": 1, "start": "1", "boot": "the one before", "run": "sft-1", "run_dir": str(run_dir.path)}
    write_json(run_dir.path / ".lock", holder)
    assert read_run(run_dir).status == "machine_restarted"


def test_a_run_whose_other_machine_still_reports_is_not_given_up(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices that the first one is gone, and writes the certificate."""
    monkeypatch.setattr("sft_tui.runs.BEATING_SECONDS", 600.0)
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    other = run_dir.events_of(1)
    other.touch()
    assert (read_run(run_dir).status, ends(run_dir)) == ("running", [])
    os.utime(other, (1_700_000_000, 1_700_000_000))
    assert (read_run(run_dir).status, len(ends(run_dir))) == ("killed", 1)


@pytest.mark.parametrize("launch", [OURS, Launch("slurm", 1, 1)], ids=["supervised", "launched"])
def test_a_run_that_writes_on_another_machine_is_not_given_up(new_run: NewRun, launch: Launch) -> None:
    """Its lock may be kept to that machine by the mount, and its events come late over the network."""
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    lock = moved_elsewhere(run_dir, launch)
    assert (read_run(run_dir).status, ends(run_dir)) == ("running", [])
    for path in (run_dir.events, lock):
        os.utime(path, (time.time() - 200,) * 2)
    assert (read_run(run_dir).status, len(ends(run_dir))) == ("killed", 1)  # that machine did not restart


def test_a_run_that_writes_on_another_machine_lives_in_every_view(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    moved_elsewhere(run_dir)
    logs, follower, feed = run_dir.path.parent, Follower(run_dir), Feed(run_dir, "en")
    assert others_running(logs, but=RunDir(logs / "sft-2")) == ["sft-1"]
    monkeypatch.setattr("sft_tui.runs.read_run", lambda _: pytest.fail("all of it is read again"))
    assert followed(run_dir, follower).status == "running"
    feed.poll()
    assert feed.run is not None
    assert (feed.run.status, feed.run.alive) == ("running", True)
    log = EventWriter(run_dir.events, "rank0", 1)
    log.write(ENDED)
    log.close()
    while feed.poll():
        pass
    assert (feed.run.status, others_running(logs, but=RunDir(logs / "sft-2"))) == (ENDED.reason, [])


def test_a_run_that_another_machine_sees_under_another_path_is_alive(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    output = Path(str(run_dir.read_record().config["output_dir"]))
    lock = FolderLock.acquire(output, "sft-1", run_dir.path)
    there = as_json(Holder("sft-1", "/mnt/logs/sft-1", "today", 7, "1", "another boot", "oak"))
    os.pwrite(lock.fd, json.dumps(there).encode().ljust(1000), 0)
    assert (read_run(run_dir).status, ends(run_dir)) == ("running", [])
    lock.release()
    assert (read_run(run_dir).status, len(ends(run_dir))) == ("killed", 1)


def test_of_two_certificates_that_of_rank_0s_side_is_shown(new_run: NewRun) -> None:
    """The cable was pulled, and both machines live: each side wrote one."""

    def lost(node: str, seen_from: str) -> events.RunEnded:
        message = Message.of(
            "ended_silent_machine",
            rank=1,
            node=node,
            main=seen_from,
            since="12:00:00",
            phase="training",
            seconds=41,
            step=7,
            resume_option="sft-tui resume sft-1",
        )
        return events.RunEnded("machine_lost", 1, message)

    run_dir = new_run("sft-1", [STARTED, PLAN, step(7), lost("oak", "ash")])
    other = Record(Envelope("2026-01-01T00:00:00+00:00", 1.0, 1, "rank1", 1), lost("ash", "oak"))
    run_dir.events_of(1).write_bytes(encode(other))
    run = read_run(run_dir)
    assert run.state.ended is not None
    assert (run.status, run.state.ended.message.args["node"]) == ("machine_lost", "oak")
    code = follow(run_dir, PlainView("en", sys.stdout, sys.stdout), "en")
    assert code == 1
    said = CliRunner().invoke(main.cli, ["status", "sft-1", "--logs", str(run_dir.path.parent)]).output
    assert "on oak gave no sign of life" in said
    assert "on ash gave no sign of life" not in said
    assert "rank1 (oak) wrote such an end too" in said
    assert len(ends(run_dir)) == 1


def test_an_attempt_without_events_is_certified_too(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7), ENDED])
    write_json(run_dir.processes, {"attempt": 2, "supervisor": {}, "ranks": []})
    assert read_run(run_dir).status == "killed"
    assert len(ends(run_dir)) == 2


@pytest.mark.parametrize(
    ("said", "status"), [("logs/sft-1/events.jsonl: Too many open files\n", "failed"), ("", "killed")]
)
def test_a_run_whose_supervisor_ended_before_its_first_event_has_ended(new_run: NewRun, said: str, status: str) -> None:
    run_dir = new_run("sft-1")
    FolderLock.acquire(run_dir.path, "sft-1", run_dir.path).release()  # as a start signs it
    run_dir.supervisor_output.write_text(f"Traceback\n{said}" if said else "")
    run = read_run(run_dir)
    assert (run.status, len(ends(run_dir))) == (status, 1)
    assert run.state.ended is not None
    assert said.strip() in run.state.ended.message.what()
    assert read_run(run_dir).status == status
    assert len(ends(run_dir)) == 1


def test_a_run_that_was_never_started_has_no_certificate(new_run: NewRun) -> None:
    run_dir = new_run("sft-1")
    assert read_run(run_dir).status == "starting"
    assert ends(run_dir) == []


@pytest.mark.parametrize("held", ["by its supervisor", "by a rank that outlived it"])
def test_a_run_is_alive_while_one_of_its_locks_is_held(new_run: NewRun, held: str) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    output = Path(str(run_dir.read_record().config["output_dir"]))
    lock = FolderLock.acquire(run_dir.path if held == "by its supervisor" else output, "sft-1", run_dir.path)
    assert read_run(run_dir).status == "running"
    run_dir.request_stop()
    assert read_run(run_dir).status == "stopping"
    run_dir.request_stop("pause")
    assert read_run(run_dir).status == "pausing"
    lock.release()
    assert read_run(run_dir).status == "killed"


def test_another_runs_lock_does_not_make_a_run_alive(new_run: NewRun, tmp_path: Path) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    output = Path(str(run_dir.read_record().config["output_dir"]))
    lock = FolderLock.acquire(output, "sft-2", tmp_path / "logs" / "sft-2")
    assert not read_run(run_dir).alive
    assert holder_of(output).run == "sft-2"
    lock.release()


def test_a_run_that_has_ended_is_not_stopped(new_run: NewRun) -> None:
    run = read_run(new_run("sft-1", [ENDED]))
    with pytest.raises(InputError, match="not running"):
        stop(run)
    assert not run.run_dir.stop_request.exists()


def test_a_launched_run_is_ended_at_once_by_its_launcher_alone(new_run: NewRun) -> None:
    run = read_run(new_run("sft-1", [STARTED, PLAN, step(7)]))
    run = dataclasses.replace(run, alive=True, record=dataclasses.replace(run.record, launch=Launch("slurm", 2, 2)))
    with pytest.raises(InputError, match="scancel"):
        stop(run, now=True)
    assert not run.run_dir.now_request.exists()
    stop(run)
    assert run.run_dir.stop_requested() == "stop"


def test_a_test_is_not_paused(new_run: NewRun) -> None:
    run = dataclasses.replace(read_run(new_run("sft-1", [STARTED], job="test")), alive=True)
    with pytest.raises(InputError, match="is a test"):
        stop(run, why="pause")


def test_ending_at_once_spares_reused_pids(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    mine = {"pid": os.getpid(), "start": "1", "boot": "another"}
    write_json(run_dir.processes, {"attempt": 1, "supervisor": mine, "ranks": [mine]})
    signalled: list[int] = []
    monkeypatch.setattr("sft_tui.runs.psutil.Process", lambda pid: signalled.append(pid))
    stop(dataclasses.replace(read_run(run_dir), alive=True), now=True)
    assert run_dir.now_request.exists()
    assert signalled == []


@pytest.mark.parametrize("removed", [False, True])
def test_ending_at_once_spares_processes_without_the_lock(new_run: NewRun, removed: bool) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(7)])
    run_dir.trainer_output.touch()
    output = run_dir.read_record().output.path
    lock = FolderLock.acquire(output, "sft-1", run_dir.path)
    with (output / ".lock").open() as looked_at, run_dir.trainer_output.open() as read:
        others = [subprocess.Popen(["sleep", "60"], stdin=open_file) for open_file in (looked_at, read)]
    rank = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fd])
    lock.release()
    try:
        named = [ProcessId.of(process.pid) for process in (*others, rank)]
        write_json(run_dir.processes, {"ranks": [vars(process) for process in named if process is not None]})
        run = read_run(run_dir)
        assert run.alive
        if removed:
            (output / ".lock").unlink()
        stop(run, now=True)
        assert rank.wait(10) == -signal.SIGKILL
        assert [process.poll() for process in others] == [None, None]
    finally:
        for process in (*others, rank):
            process.kill()
            process.wait()


MODEL_IN = events.RunEnded("finished", 0, Message("ended_finished", {
    "steps_total": 9, "loss": "1.0", "bleu": "2.00", "epoch": 1, "path": "",
}))  # fmt: skip


@pytest.fixture
def two_of_one_preset(tmp_path: Path, new_run: NewRun) -> tuple[RunDir, RunDir, OutputDir]:
    """Two finished runs into one folder, the first of which was moved aside, and the folder."""
    output = OutputDir(tmp_path / "out")
    for name in ("sft-small-1", "sft-small-2"):
        run_dir = new_run(name)
        end = dataclasses.replace(
            MODEL_IN, message=Message("ended_finished", {**MODEL_IN.message.args, "path": str(output.best)})
        )
        put = [
            Record(Envelope("2026-01-01T00:00:00+00:00", 1.0, 1, "rank0", n), e)
            for n, e in enumerate((STARTED, PLAN, step(9), end))
        ]
        run_dir.events.write_bytes(b"".join(map(encode, put)))
        record = run_dir.read_record()
        run_dir.write_record(dataclasses.replace(record, config={**record.config, "output_dir": str(output.path)}))
        output.set_aside()
        output.best.mkdir(parents=True)
        write_json(output.owner_file, {"run": name, "finished": True})
    return RunDir(tmp_path / "logs" / "sft-small-1"), RunDir(tmp_path / "logs" / "sft-small-2"), output


def test_the_model_of_an_older_run_is_where_it_was_moved(two_of_one_preset: tuple[RunDir, RunDir, OutputDir]) -> None:
    older, newer, output = two_of_one_preset
    aside = output.path / "earlier" / "sft-small-1" / "best"
    for run_dir, best in ((older, aside), (newer, output.best)):
        run = read_run(run_dir)
        assert run.to_json()["model"] == str(best)
        assert run.state.ended is not None
        assert run.state.ended.message.what().endswith(f"the model is in {best}.")
        (cached,) = [one for one in all_runs(run_dir.path.parent, {run.name: run}) if one.name == run.name]
        assert cached == run


def test_a_model_moved_aside_later_is_found(new_run: NewRun, tmp_path: Path) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(9), ENDED])
    output = run_dir.read_record().output
    output.best.mkdir(parents=True)
    write_json(output.owner_file, {"run": "sft-1"})
    known = {run.name: run for run in all_runs(tmp_path / "logs")}
    output.set_aside()
    (run,) = all_runs(tmp_path / "logs", known)
    assert run.to_json()["model"] == str(output.path / "earlier" / "sft-1" / "best")


def test_a_deleted_model_is_not_shown(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(9), ENDED])
    assert read_run(run_dir).to_json()["model"] is None


@pytest.mark.parametrize("others", [["sft-1"], ["sft-1", "sft-1", "sft-10"], ["sft-10"], []])
def test_without_ids_the_newest_output_moved_aside_is_meant(tmp_path: Path, others: list[str]) -> None:
    output = OutputDir(tmp_path / "out")
    for number, name in enumerate([*others, "sft-2"]):
        output.set_aside()
        output.checkpoint(number).mkdir(parents=True)
        write_json(output.owner_file, {"run": name})
        os.utime(output.owner_file, (number, number))
    found = output.of_run("sft-1", "")
    steps = found.checkpoint_steps() if found else []
    assert steps == [number for number, name in enumerate(others) if name == "sft-1"][-1:]


def test_output_moved_aside_is_found_by_the_runs_id(tmp_path: Path) -> None:
    output, ids = OutputDir(tmp_path / "out"), [new_id() for _ in range(3)]
    for number, id in enumerate(ids):  # of runs in other folders of logs
        output.set_aside()
        output.checkpoint(number).mkdir(parents=True)
        write_json(output.owner_file, {"run": "sft-1", "id": id})
    found = [output.of_run("sft-1", id) for id in (*ids, new_id())]
    assert [one and one.checkpoint_steps() for one in found] == [[0], [1], [2], None]


# What may not be read, or is something else.


@pytest.mark.parametrize("closed", ["", "run.json", "events.jsonl"])
def test_an_unreadable_run_is_listed_with_the_reason(
    new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.chdir(tmp_path)  # as people call it: the reason follows a path as short as theirs
    run_dir = new_run("sft-1", [STARTED, PLAN, step(5), ENDED])
    new_run("sft-2", [ENDED])
    (run_dir.path / closed).chmod(0)
    try:
        with enforced():
            found = {run.name: run for run in all_runs(Path("logs"))}
            lines = listing.table(list(found.values()), "en")
            with pytest.raises(InputError, match="Permission denied"):
                read_run(find(Path("logs"), "sft-1"))
    finally:
        (run_dir.path / closed).chmod(0o755)
    assert (found["sft-1"].status, found["sft-2"].status) == ("unreadable", "finished")
    assert any("sft-1" in line and "Permission denied" in line for line in lines)
    assert found["sft-1"].to_json()["exit_code"] == 2
    with pytest.raises(InputError, match="Permission denied"):
        require_readable(found["sft-1"])
    assert {run.name: run.status for run in all_runs(Path("logs"), found)} == dict.fromkeys(found, "finished")


def test_unreadable_output_is_an_error(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [ENDED])
    run_dir.trainer_output.touch(0)
    with enforced(), pytest.raises(InputError, match=r"trainer\.log cannot be read: Permission denied"):
        listing.print_output(run_dir)


def test_output_with_a_terabyte_hole_is_printed_at_once(new_run: NewRun, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = new_run("sft-1", [ENDED])
    run_dir.trainer_output.write_text("before\n")
    with run_dir.trainer_output.open("r+b") as file:
        file.seek(1 << 40)
        file.write("\n之后\n".encode())
    listing.print_output(run_dir)
    printed = capsys.readouterr().out.splitlines()
    assert (printed[0], printed[-1]) == ("before", "之后")
    assert sum(map(len, printed)) < 10 << 20


def _linked(run_dir: RunDir) -> None:
    os.link(run_dir.events, run_dir.path / "backup")


def _closed(run_dir: RunDir) -> None:
    for path in (run_dir.events, run_dir.path, run_dir.path.parent):
        path.chmod(0o555)


@pytest.mark.parametrize("made_so", [_linked, _closed, lambda run_dir: run_dir.events.chmod(0o444)])
def test_an_end_that_cannot_be_written_is_shown(
    new_run: NewRun,
    made_so: Callable[[RunDir], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sft_tui.following.LOOK_SECONDS", 0.1)
    run_dir = new_run("sft-1", [STARTED, PLAN, step(5)])
    made_so(run_dir)
    before = run_dir.events.read_bytes()
    feed = Feed(run_dir, "en")
    with enforced():
        assert read_run(run_dir).status == "killed"
        assert follow(run_dir, PlainView("en", sys.stdout, sys.stdout), "en") == 1
        while feed.poll():
            pass
    shot = feed.latest()
    assert shot is not None
    assert shot.run.status == "killed"
    assert "sft-tui resume sft-1" in capsys.readouterr().out
    assert run_dir.events.read_bytes() == before
    run_dir.path.parent.chmod(0o755)
    run_dir.path.chmod(0o755)


PLANTED: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link": lambda path: path.symlink_to("../../victim"),
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("name", ["events.jsonl", "run.json", "snapshot.json", "processes.json", ".lock", "control"])
@pytest.mark.parametrize("planted", PLANTED)
def test_listing_runs_neither_waits_nor_writes_elsewhere(
    new_run: NewRun, tmp_path: Path, name: str, planted: str
) -> None:
    """The attempt has no end, so that a reader would write one."""
    run_dir = new_run("sft-1", [STARTED, PLAN, step(5)])
    (tmp_path / "victim").write_text("precious")
    if name in ("events.jsonl", "run.json"):
        (run_dir.path / name).unlink()
    PLANTED[planted](run_dir.path / name)
    for run in all_runs(tmp_path / "logs"):
        assert run.to_json()["run"] == "sft-1"
    assert (tmp_path / "victim").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "victim"]


def test_a_path_means_its_run_and_not_a_namesake_here(
    new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = new_run("sft-1", [ENDED])
    (tmp_path / "here" / "logs" / "sft-1").mkdir(parents=True)
    (tmp_path / "here" / "logs" / "sft-1" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    for name in (str(theirs.path), "../logs/sft-1", "../logs/../logs/sft-1/"):
        found = find(Path("logs"), name)
        assert found.path.resolve() == theirs.path
        assert find(found.path.parent, found.path.name).path.resolve() == theirs.path  # as the screen asks
    monkeypatch.chdir(theirs.path)
    assert find(Path("logs"), ".").path == theirs.path


def test_viewing_a_deleted_run_does_not_recreate_it(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = new_run("sft-1", [STARTED, PLAN, step(5)])

    def deleted(*_: object) -> bool:
        shutil.rmtree(run_dir.path)
        return False

    monkeypatch.setattr("sft_tui.runs.is_alive", deleted)
    read_run(run_dir)
    assert not run_dir.path.exists()


def test_the_screen_opens_the_run_of_the_named_folder(
    new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, opened = new_run("sft-1", [ENDED]), list[Path]()
    (tmp_path / "here" / "logs" / "sft-1").mkdir(parents=True)
    (tmp_path / "here" / "logs" / "sft-1" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(showing, "has_terminal", lambda: True)
    monkeypatch.setattr(showing, "show_screen", lambda logs, run, **_: opened.append(find(logs, run).path))
    CliRunner().invoke(main.cli, ["attach", str(theirs.path)])
    assert opened == [theirs.path]


def test_a_test_has_a_score_and_no_epoch(new_run: NewRun) -> None:
    run_dir = new_run("sft-1", [STARTED, dataclasses.replace(EVAL, epoch=0), ENDED], job="test")
    found = read_run(run_dir).to_json()
    assert (found["best_epoch"], found["best_bleu"]) == (None, EVAL.bleu)


@pytest.mark.parametrize(("evaluation", "count"), [(EVAL, 6), (OLD_EVAL, 2)], ids=["new", "old"])
def test_status_has_every_score_with_its_signature(new_run: NewRun, evaluation: Eval, count: int) -> None:
    found = read_run(new_run("sft-1", [STARTED, evaluation, ENDED])).to_json()
    assert found["best_by"] == "bleu"
    assert found["eval_scores"]["bleu"] == {"value": 12.25, "signature": "nrefs:1|tok:zh"}
    assert len(found["eval_scores"]) == count
    assert found["best_scores"] == found["eval_scores"]
