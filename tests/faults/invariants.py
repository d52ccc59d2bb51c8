"""What must hold after every fault: the tests of the faults and the tests of these checks use the same functions."""

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, Self

import pytest
from safetensors import torch as safetensors_torch

from engine.contract.durable import read_json, write_json
from engine.contract.manifest import MANIFEST, Manifest
from engine.contract.outputdir import OutputDir
from engine.training import checkpoint
from engine.training.checkpoint import CheckpointWriter
from tests.faults.failing_calls import KINDS, Call, Calls
from tests.faults.scenarios import Tries
from tests.faults.tiny import Tiny, published_mark, save_and_prune

PATIENCE = 5.0  # seconds that looking for a checkpoint may take
KNOWN = {"checkpoints", "best", "RUN.json", "evaluations.json", ".lock", "earlier"}
OLD, NEW = ({"run": name, "config": {"epochs": 3, "prompt": "问"}} for name in ("old", "new"))


class Fault(Protocol):
    """A fault that is there while this is entered; `hit` says afterwards whether it came about."""

    hit: bool

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class HangError(BaseException):
    """Something waited where it must not; no `except OSError` takes it for a bad file."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails where what is inside takes longer: a pipe that nobody writes to is waited for without end."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except HangError:
        raise AssertionError(f"not done after {seconds} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def assert_nothing_lost(output: OutputDir, acknowledged: Sequence[int], attempted: int = -1) -> None:
    """Every acknowledged checkpoint is sound, and the newest of them is found.

    `attempted` may be found instead: only the flush after its rename is missing, and it is whole.
    """
    for step in acknowledged:
        assert_sound(output.checkpoint(step))
    found, _ = checkpoint.newest_sound(output)
    wanted = max(acknowledged, default=None)
    taken = None if found is None else found.step
    assert taken in (wanted, attempted), f"the newest sound one is of step {taken} and not {wanted}"


def assert_sound(path: Path) -> None:
    """The checkpoint is verified without an error."""
    try:
        checkpoint.verify(path)
    except (OSError, ValueError) as error:
        raise AssertionError(f"{path.name} is lost: {error}") from None


def assert_tidy(output: OutputDir, damaged: Sequence[int] = ()) -> None:
    """Nothing half done has a checkpoint's name, and no staging is left; `damaged` were there before."""
    for step in output.checkpoint_steps():
        if step not in damaged:
            assert_sound(output.checkpoint(step))
    strange = {entry.name for entry in entries(output.path)} - KNOWN
    strange |= {
        entry.name for entry in entries(output.checkpoints) if not re.fullmatch(r"frozen|step-\d{8}", entry.name)
    }
    strange |= {
        f"frozen/{entry.name}"
        for entry in entries(output.checkpoints / "frozen")
        if not re.fullmatch(r"[0-9a-f]{64}\.safetensors", entry.name)
    }
    assert not strange, f"left behind: {sorted(strange)}"


def entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it is not there."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def every_call_fails(
    tries: Tries,
    number: int,
    folder: Path,
    prepare: Callable[[], object],
    check: Callable[[Fault], None],
    kinds: Sequence[str] = KINDS,
) -> None:
    """Runs `check` with every single call of these kinds in `folder` failing in turn, in this process."""
    for kind in kinds:

        def attempt(nth: int, kind: str = kind) -> tuple[bool, str]:
            prepare()
            fault, problem = Calls(folder, kind, nth, number), ""
            try:
                check(fault)
            except AssertionError as error:
                problem = str(error) or "an assertion failed"
            return fault.hit, problem

        tries.every(f"{os.strerror(number)}, {kind}", attempt)


def assert_survives_a_save(
    fault: Fault,
    output: OutputDir,
    writer: CheckpointWriter,
    step: int,
    acknowledged: Sequence[int],
    damaged: Sequence[int] = (),
) -> None:
    """A save under a fault loses nothing and leaves nothing, and the next one, without it, goes through.

    `writer` keeps two checkpoints or more. One whose rename alone was not flushed is whole, and counts.
    """
    with fault:
        done = _succeeds(lambda: save_and_prune(writer, step))
    kept = [*acknowledged, step][-2:] if done else acknowledged
    assert_nothing_lost(output, kept, step)
    there = done or _is_sound(output, step)
    assert_tidy(output, () if there else damaged)
    save_and_prune(writer, step + 1)
    kept = [*acknowledged, step][-2:] if there else kept
    assert_nothing_lost(output, [*kept, step + 1][-2:])
    assert_tidy(output, () if there else damaged)


def _is_sound(output: OutputDir, step: int) -> bool:
    """Whether the checkpoint is there and whole, acknowledged or not."""
    try:
        return bool(checkpoint.verify(output.checkpoint(step)))
    except (OSError, ValueError):
        return False


def assert_survives_a_publication(fault: Fault, output: OutputDir, tiny: Tiny, old: float | None) -> None:
    """The published model is whole under a fault, the old one or the new one, and the next publication goes through."""
    with fault:
        done = _succeeds(lambda: tiny.publish(output, 2.0))
    assert_best(output, [2.0] if done else [old, 2.0])
    if not done or not (output.path / checkpoint.OLD_BEST).exists():  # where its removal fails, the next one removes it
        assert_tidy(output)
    tiny.publish(output, 3.0)
    assert_best(output, [3.0])
    assert_tidy(output)


def assert_best(output: OutputDir, marks: Sequence[float | None]) -> None:
    """The best model loads and is one of those with these marks; None stands for no model at all."""
    if not output.best.exists():
        assert None in marks, "there is no best model any more"
        return
    try:
        found = published_mark(output.best)
    except Exception as error:  # transformers raises what it likes
        raise AssertionError(f"the best model does not load: {error!r}") from None
    assert found in marks, f"the best model is {found} and none of {marks}"


def assert_survives_a_record(fault: Fault, output: OutputDir) -> None:
    """A JSON file that is written over `OLD` under a fault is the old one or the new one, and the next is written."""
    with fault:
        done = _succeeds(lambda: write_json(output.owner_file, NEW))
    assert read_json(output.owner_file) in ([NEW] if done else [OLD, NEW]), "the record is cut"
    assert_tidy(output)
    newer = {**NEW, "run": "newer"}
    write_json(output.owner_file, newer)
    assert read_json(output.owner_file) == newer
    assert_tidy(output)


def _succeeds(work: Callable[[], object]) -> bool:
    """Whether it went through; an error that training does not expect of it would end training."""
    try:
        work()
    except checkpoint.SAVE_ERRORS:
        return False
    except Exception as error:
        raise AssertionError(f"training would end with {error!r}") from None
    return True


def assert_flushed_before_published(output: OutputDir, writer: CheckpointWriter, step: int) -> None:
    """Every file and its folder are on the disk before the folder has its name, and the parent after that."""
    with Calls(output.path) as calls:
        writer.save(Manifest(step=step))
    final = output.checkpoint(step)
    published = calls.seen.index(("rename", final))
    before, after = calls.seen[:published], calls.seen[published + 1 :]
    staged = next(
        path for kind, path in before if kind == "mkdir" and path.parent == final.parent and path.name != "frozen"
    )
    for name in sorted(path.name for path in final.iterdir()):
        _assert_flushed_last(before, staged / name)
    _assert_flushed_last(before, staged)
    assert ("fsync", final.parent) in after, "the folder of the checkpoints was not flushed after the rename"
    assert all(("write", staged / name) not in after for name in os.listdir(final)), "written after it was published"
    _assert_manifest_last(before, staged)


def assert_folders_are_flushed(calls: Sequence[Call]) -> None:
    """Every folder that was made is on the disk: its parent was flushed after it was made."""
    for place, (kind, path) in enumerate(calls):
        if kind == "mkdir":
            assert ("fsync", path.parent) in calls[place:], f"{path.parent.name} was not flushed: it holds {path.name}"


def _assert_flushed_last(calls: Sequence[Call], path: Path) -> None:
    """The last thing that happened to a file, or in a folder, was that it was flushed."""
    touched = [kind for kind, where in calls if where == path or (where.parent == path and kind != "fsync")]
    assert touched[-1:] == ["fsync"], f"{path.name} was published without being flushed: {touched}"


def _assert_manifest_last(calls: Sequence[Call], staged: Path) -> None:
    written = [path.name for kind, path in calls if kind == "write" and path.parent == staged]
    first = written.index(MANIFEST)
    assert set(written[first:]) == {MANIFEST}, f"written after the manifest: {written[first:]}"


def assert_damage_is_found(output: OutputDir, newest: int, before: int | None, name: str) -> None:
    """The damaged newest checkpoint is passed over and named, before a tensor of any is used; `before` is taken."""
    used: list[str] = []
    real: Callable[..., object] = vars(safetensors_torch)["safe_open"]

    def recorded(path: str, *args: object, **kwargs: object) -> object:
        used.append(str(path))
        return real(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, within(PATIENCE):
        patch.setattr(safetensors_torch, "safe_open", recorded)
        found, skipped = checkpoint.newest_sound(output)
        assert not used, f"tensors were read before the hashes: {used}"
        assert (None if found is None else found.step) == before, f"taken: {found}"
        said = [(message.args["checkpoint"], str(message.args["why"])) for message in skipped]
        assert said, "nothing was said of the damaged one"
        assert said[0][0] == str(output.checkpoint(newest))
        assert name in said[0][1], f"{name} is not named: {said[0][1]}"
        if found is not None:
            found.weights(), found.optimizer_state()
            assert len(used) == 3, f"the recorder sees no tensors being read: {used}"
            assert not [path for path in used if Path(path).parent == output.checkpoint(newest)]
