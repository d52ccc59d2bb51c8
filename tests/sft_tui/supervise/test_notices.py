"""When a supervisor sends a notice."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir, create_run_dir
from engine.contract.stream import EventReader, EventWriter
from sft_tui import notifying
from sft_tui.notifying import Notice
from sft_tui.supervise.notices import LossWatch, Notices
from sft_tui.supervise.stall import Watch
from tests.processes import until
from tests.sft_tui.conftest import step
from tests.sft_tui.supervise.test_supervisor import Supervised, run_dir, subreaper, supervise

__all__ = ["run_dir", "subreaper", "supervise"]  # fixtures
HOST = events.Host(16_000_000_000, 6_900_000_000, [], 96.0, 44_790_000_000)
ENDED = events.RunEnded("finished", 0, Message("ended_finished_unpublished", {"steps_total": 9, "path": "out"}))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    """The notices that would be sent."""
    found: list[Notice] = []
    monkeypatch.setenv(notifying.VARIABLE, "true")
    monkeypatch.setattr(notifying, "begin", lambda notice: found.append(notice))
    return found


@pytest.fixture
def notices(tmp_path: Path, sent: list[Notice]) -> Notices:  # noqa: ARG001
    place = create_run_dir(tmp_path / "logs", "sft-small")
    return Notices(place, EventWriter(place.events, "supervisor", 1))


def test_each_trouble_is_sent_once(notices: Notices, sent: list[Notice]) -> None:
    for number in range(3):
        notices.take(step(number, loss=math.nan))
        notices.take(events.Host(1, 1, [], 1.0, 5))
    notices.end(ENDED)
    assert [one.kind for one in sent] == ["diverging", "disk", "ended"]
    assert sent[-1].run == "sft-small-1"


def test_a_healthy_run_sends_only_its_end(notices: Notices, sent: list[Notice]) -> None:
    for number in range(200):
        notices.take(step(number, loss=4.0 * 0.98**number + 0.5))
    notices.take(HOST)
    notices.look(Watch(300.0))
    assert sent == []


def test_the_disk_must_hold_further_checkpoints(notices: Notices, sent: list[Notice]) -> None:
    notices.take(events.Checkpoint(1, 60, "x", 40_000_000_000, 1.0, []))
    notices.take(HOST)
    assert [one.kind for one in sent] == ["disk"]


def test_a_stall_is_sent_before_the_run_is_ended_and_again_after_progress(notices: Notices, sent: list[Notice]) -> None:
    watch = Watch(100.0)
    for phase in ("training", "evaluating"):
        watch.beat(0, phase, 1, waiting=False)
        notices.look(watch)
        for _ in range(30):
            watch.pass_time(2.0)
            watch.beat(0, phase, 1, waiting=False)
        assert watch.overdue() is None
        notices.look(watch)
        notices.look(watch)
    assert [one.kind for one in sent] == ["stalled", "stalled"]


@pytest.mark.parametrize(
    ("losses", "diverges"),
    [
        ([math.inf], True),
        ([5.0] * 10 + [1.0] * 100, False),
        ([1.0] * 100 + [9.0], False),  # one bad step
        ([1.0] * 100 + [9.0] * 30, True),
        ([1.0] * 20 + [9.0] * 10 + [8.0] * 60, False),  # while it settles
    ],
)
def test_a_loss_diverges_when_it_stays_far_above_its_lowest(losses: list[float], diverges: bool) -> None:
    watch = LossWatch()
    assert (
        any(list(map(watch.diverges, (step(number, loss=loss) for number, loss in enumerate(losses, 1))))) == diverges
    )


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits for the processes that send, which a supervisor never does."""
    found: list[subprocess.Popen[bytes] | None] = []
    begin = notifying.begin

    def begin_one(notice: Notice) -> subprocess.Popen[bytes] | None:
        found.append(begin(notice))
        return found[-1]

    monkeypatch.setattr(notifying, "begin", begin_one)
    yield
    for process in found:
        assert process is not None
        process.wait(60)


@pytest.mark.usefixtures("begun")
def test_the_end_of_a_run_reaches_a_command(
    supervise: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "notify.py"
    program.write_text(f"import sys; open({str(tmp_path / 'kept')!r}, 'w').write('|'.join(sys.argv[1:]))")
    monkeypatch.setenv(notifying.VARIABLE, f"{sys.executable} {program}")
    assert supervise("end('finished', 0)") == 0
    until(lambda: (tmp_path / "kept").is_file() and "|" in (tmp_path / "kept").read_text(), 60)
    assert (tmp_path / "kept").read_text().startswith("sft-small-1: finished|")


@pytest.mark.usefixtures("begun")
def test_a_command_that_fails_is_noted_once_and_changes_nothing(
    run_dir: RunDir, supervise: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(notifying.VARIABLE, "false")
    lines = "".join(f"log.write(events.Host(1, 1, [], 1.0, {free}))\n" for free in (1, 2, 3))
    program = f"{lines}wait(lambda: b'notify_failed' in run_dir.events.read_bytes())\nend('finished', 0)"
    assert supervise(program) == 0
    warned = [one.event for one in EventReader(run_dir.events).poll() if isinstance(one.event, events.Warning)]
    assert [event.message.code for event in warned if event.message.code != "gpu_unreadable"] == ["notify_failed"]


@pytest.mark.parametrize("where", ["record", "preset", "folder"])
def test_no_file_of_a_run_says_where_notices_go(
    run_dir: RunDir, supervise: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.delenv(notifying.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    owned = f"touch {tmp_path / 'owned'}"
    more: dict[str, Any] = {"notify": owned} if where == "record" else {}
    for path in (tmp_path / "notify.toml", run_dir.path / "notify.toml"):
        if where == "folder":
            path.write_text(f'notify = "{owned}"')
    if where == "preset":
        (tmp_path / "presets").mkdir()
        (tmp_path / "presets/sft-small.toml").write_text(f'notify = "{owned}"')
    begun: list[Notice] = []
    monkeypatch.setattr(notifying, "begin", begun.append)
    assert supervise("end('finished', 0)", **more) == 0
    assert begun == []
