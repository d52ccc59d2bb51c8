"""Two ranks on this machine, as if each were on a machine of its own."""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract import events
from engine.contract.files import STAGED
from engine.contract.merged_stream import MergedReader
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from engine.process import shared_folder
from engine.process.shared_folder import require_shared
from tests.engine.conftest import outcome_of
from tests.engine.test_train import free_port
from tests.machines.ranks import started

NODES = ("ash", "oak")


@pytest.mark.slow
def test_two_machines_that_share_a_folder_train_together(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    run_dir = make_run(processes=2, gradient_accumulation_steps=4)
    with started([run_dir.path] * 2, tmp_path, "127.0.0.1", free_port(), nodes=NODES) as ranks:
        codes = ranks.codes()
    assert codes == [0, 0], (ranks.said(0), ranks.said(1))
    found = outcome_of(run_dir, 0)
    assert found.ended.reason == "finished"
    assert [path.name for path in run_dir.other_events()] == ["events-rank1.jsonl"]
    sources = {record.envelope.src for record in MergedReader(run_dir).poll()}
    assert sources - {"monitor", "monitor1"} == {"rank0"}  # no heartbeats of rank 1
    assert not list(found.output.path.rglob(".tmp-sft-*")) + list(run_dir.path.glob(".tmp-sft-*"))
    notes = [event.message.text() for event in found.all(events.Notice)]
    assert "Training on several machines: ash, oak. World size: 2." in notes
    assert any(re.match(r"Network between the machines: [\d.e+]+ MB/s, measured\.", note) for note in notes)


def test_machines_that_do_not_share_the_folder_are_refused(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    run_dir = make_run(processes=2)
    other = tmp_path / "elsewhere"
    shutil.copytree(run_dir.path, other)
    with started([run_dir.path, other], tmp_path, "127.0.0.1", free_port(), nodes=NODES) as ranks:
        assert ranks.codes() == [2, 2], (ranks.said(0), ranks.said(1))
    (end,) = outcome_of(run_dir, 2).all(events.RunEnded)
    assert (end.reason, end.message.code, end.message.args["nodes"]) == ("refused", "folder_not_shared", "oak")
    assert str(run_dir.path) in end.message.what()
    assert all("must be a folder that all machines share" in ranks.said(rank) for rank in (0, 1))
    assert [path.name for path in other.iterdir()] == ["run.json"]
    assert not Path(run_dir.read_record().config["output_dir"]).exists()


@pytest.mark.slow
@pytest.mark.parametrize("blind", [0, 1])
def test_a_machine_without_the_folder_of_the_run_is_named_at_once(
    make_run: Callable[..., RunDir], tmp_path: Path, blind: int
) -> None:
    """Such as one with a clone of its own, or where the share is not mounted."""
    run_dir, before = make_run(processes=2), time.monotonic()
    folders = [run_dir.path, run_dir.path]
    folders[blind] = tmp_path / "not mounted"
    with started(folders, tmp_path, "127.0.0.1", free_port(), nodes=NODES) as ranks:
        assert ranks.codes() == [2, 2], (ranks.said(0), ranks.said(1))
    assert time.monotonic() - before < 90
    (end,) = outcome_of(run_dir, 2).all(events.RunEnded)
    assert (end.reason, end.message.code, end.message.args["nodes"]) == ("refused", "folder_not_shared", NODES[blind])
    assert all(f"is not the one that {NODES[blind]} sees" in ranks.said(rank) for rank in (0, 1))
    assert not folders[blind].exists()


def two_machines(seen: list[str]) -> Any:
    """Rank 0 of two machines; what the other one sees of the file is what this one does, unless `seen` says so."""
    return SimpleNamespace(
        machines=["a", "b"],
        nodes=list(NODES),
        is_main=True,
        is_local_main=True,
        from_main=lambda value: value,
        together=lambda work, *, chosen: work() if chosen else None,
        gather=lambda found: [*found, *(seen or found)],
    )


def test_machines_that_see_each_others_locks_may_train(tmp_path: Path) -> None:
    require_shared(two_machines([]), tmp_path, "logs")
    assert list(tmp_path.iterdir()) == []


def test_a_mount_that_keeps_locks_to_each_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="oak cannot see the lock that ash holds") as refused:
        require_shared(two_machines(["file"]), tmp_path, "logs")
    assert "`localflock`" in refused.value.message.fix()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_this_mount_does_not_show_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: None if how & fcntl.LOCK_SH else flock(fd, how))
    with pytest.raises(InputError, match="ash, oak cannot see the lock"):
        require_shared(two_machines([]), tmp_path, "logs")


def test_a_mount_without_locks_is_refused_with_its_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(InputError, match="file system without locks") as refused:
        require_shared(two_machines([]), tmp_path, "output_dir")
    assert "the option `flock`" in refused.value.message.fix()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_may_not_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce, opened = "0" * 32, []
    name = f"{STAGED}nonce-{nonce}"
    (tmp_path / name).write_text(nonce)
    monkeypatch.setattr(shared_folder, "is_held", lambda _: True)
    second = two_machines(["lock"])
    second.is_main, second.rank, second.from_main = False, 1, lambda _: (name, nonce)

    def read_only(path: Path, *_flags: int) -> int:
        opened.append(path)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    require_shared(second, tmp_path, "logs")
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(shared_folder, "open_regular", read_only)
    with pytest.raises(InputError) as refused:
        require_shared(second, tmp_path, "logs")
    assert refused.value.message.what() == f"{tmp_path} cannot be written on oak: Read-only file system."
    assert opened != [tmp_path / name]
