"""The state of a run, from a snapshot and the rest of its stream, is the one that the whole stream gives."""

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.contract.events import Event, Phase, Record, encode
from engine.contract.rundir import RunDir
from sft_tui.history import Follower
from sft_tui.run_state import Pace, RunState

from .conftest import ENDED, EVAL, PLAN, STARTED, step

Put = Callable[..., Record]
STORY: list[Event] = [
    STARTED,
    PLAN,
    Phase("training"),
    *(step(number) for number in range(1, 51)),
    EVAL,
    step(51, loss=float("nan")),
    ENDED,
]


def read_state(run_dir: RunDir) -> RunState:
    """The state of a run as of now."""
    follower = Follower(run_dir)
    follower.poll()
    return follower.state


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """The folder of a run."""
    return RunDir(tmp_path)


@pytest.fixture
def lines(record: Put) -> list[bytes]:
    """Two attempts."""
    return [encode(record(event, attempt)) for attempt in (1, 2) for event in STORY]


@pytest.mark.parametrize("cut", [1, 3, 40, 56, 57, 90, 113, 114])
def test_a_snapshot_and_the_rest_equal_the_whole(run_dir: RunDir, lines: list[bytes], cut: int) -> None:
    torn = lines[cut][:20] if cut < len(lines) else b""  # a line that is still being written
    run_dir.events.write_bytes(b"".join(lines[:cut]) + torn)
    follower = Follower(run_dir)
    follower.poll()
    follower.save()
    run_dir.events.write_bytes(b"".join(lines))
    from_snapshot = read_state(run_dir)
    run_dir.snapshot.unlink()
    assert repr(from_snapshot) == repr(read_state(run_dir))  # NaN is not equal to itself
    follower.poll()
    assert repr(follower.state) == repr(from_snapshot)


def test_only_new_events_are_read(run_dir: RunDir, lines: list[bytes]) -> None:
    run_dir.events.write_bytes(b"".join(lines[:-1]))
    first = Follower(run_dir)
    assert len(first.poll()) == len(lines) - 1
    first.save()
    with run_dir.events.open("ab") as stream:
        stream.write(lines[-1])
    assert len(Follower(run_dir).poll()) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"place": {}}', '{"place": {"offset": 5}, "state": {"x": 1}}']
)
def test_an_invalid_snapshot_is_ignored(run_dir: RunDir, lines: list[bytes], content: str) -> None:
    run_dir.events.write_bytes(b"".join(lines))
    whole = read_state(run_dir)
    run_dir.snapshot.write_text(content)
    assert repr(read_state(run_dir)) == repr(whole)


@pytest.fixture
def saved(run_dir: RunDir, lines: list[bytes]) -> RunState:
    """The state of a run whose snapshot was written."""
    run_dir.events.write_bytes(b"".join(lines))
    follower = Follower(run_dir)
    follower.poll()
    follower.save()
    return follower.state


def test_a_snapshot_of_another_version_is_ignored(run_dir: RunDir, saved: RunState) -> None:
    rewrite(run_dir, lambda value: value.update(version=1))
    assert repr(read_state(run_dir)) == repr(saved)


def test_a_flipped_bit_of_a_snapshot_changes_nothing_shown(run_dir: RunDir, saved: RunState) -> None:
    content, random = run_dir.snapshot.read_bytes(), Random(7)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[random.randrange(len(content))] ^= 1 << random.randrange(8)
        run_dir.snapshot.write_bytes(damaged)
        assert repr(read_state(run_dir)) == repr(saved)


WRONG: list[Any] = [None, True, -5, 1e308, 10**400, "x", [], [None], {}, {"kind": "step"}, {"kind": "kinf", "a": 1}]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.usefixtures("saved")
def test_a_snapshot_with_a_wrong_type_is_ignored(run_dir: RunDir, value: Any) -> None:
    """Its hash fits, as it does where another program wrote it."""
    content = json.loads(run_dir.snapshot.read_text())
    for part in ("state", "curves", "place"):
        for name in content[part]:
            rewrite(run_dir, functools.partial(put, part=part, name=name, value=value))
            state = read_state(run_dir)
            assert isinstance(state.pace, Pace)
            assert state.attempt >= 0
            assert all(part is None or isinstance(part, Event) for part in (state.plan, state.step, state.ended))
            run_dir.snapshot.write_text(json.dumps(content))


def test_a_snapshot_of_another_stream_is_ignored(run_dir: RunDir, lines: list[bytes], saved: RunState) -> None:
    run_dir.events.unlink()
    run_dir.events.write_bytes(lines[0])
    assert (read_state(run_dir).attempt, read_state(run_dir).step) == (1, None)
    assert saved.attempt == 2


def put(whole: dict[str, Any], part: str, name: str, value: Any) -> None:
    """Replaces one field of a part of a snapshot."""
    whole[part][name] = value


def rewrite(run_dir: RunDir, change: Callable[[dict[str, Any]], object]) -> None:
    """Writes the snapshot again with something changed, and with the hash that fits."""
    value = json.loads(run_dir.snapshot.read_text())
    del value["sha256"]
    change(value)
    value["sha256"] = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    run_dir.snapshot.write_text(json.dumps(value))


@pytest.mark.parametrize("how", ["replaced", "cut"])
def test_nothing_is_kept_of_a_removed_stream(run_dir: RunDir, lines: list[bytes], how: str) -> None:
    run_dir.events.write_bytes(b"".join(lines))
    follower = Follower(run_dir)
    follower.poll()
    follower.save()
    if how == "replaced":
        run_dir.events.unlink()
    run_dir.events.write_bytes(lines[0])
    follower.poll()
    for state in (follower.state, read_state(run_dir)):
        assert (state.attempt, state.step, state.best, state.started) == (1, None, None, STARTED)
