"""What rank 0 does for a run without a supervisor: nothing of it disturbs the run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.contract.events import Record
from engine.contract.rundir import RunDir, create_run_dir
from sft_tui.guide.unsupervised import Attendant
from tests.sft_tui.conftest import ENDED, EVAL, PLAN, STARTED, step

Put = Callable[..., Record]


class View:
    """A terminal, which may be gone."""

    def __init__(self) -> None:
        self.shown: list[Record] = []
        self.tries, self.gone, self.closed = 0, False, False

    def show(self, record: Record) -> None:
        """Shows an event."""
        self.tries += 1
        if self.gone:
            raise BrokenPipeError
        self.shown.append(record)

    def close(self) -> None:
        """Restores the terminal."""
        self.closed = True
        if self.gone:
            raise BrokenPipeError

    def suspend(self) -> None:
        """Makes room for a question."""

    def restore(self) -> None:
        """Resumes after a question."""


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """The folder of a run."""
    return create_run_dir(tmp_path / "logs", "sft-small")


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def attendant(run_dir: RunDir, view: View) -> Iterator[Attendant]:
    one = Attendant(run_dir, view, "en")
    yield one
    one.close()


def test_events_are_shown_and_logged(attendant: Attendant, run_dir: RunDir, view: View, record: Put) -> None:
    shown = [record(event) for event in (STARTED, PLAN, step(1), EVAL, ENDED)]
    for one in shown:
        attendant.show(one)
    attendant.close()
    assert view.shown == shown
    assert view.closed
    assert "BLEU" in run_dir.plain_log.read_text()


def test_after_its_terminal_is_gone_a_run_is_still_logged(
    attendant: Attendant, run_dir: RunDir, view: View, record: Put
) -> None:
    attendant.show(record(STARTED))
    view.gone = True
    attendant.show(record(step(1)))
    attendant.show(record(EVAL))
    assert view.tries == 2  # it is not asked again
    assert "BLEU" in run_dir.plain_log.read_text()


def test_a_terminal_that_is_gone_at_the_end_is_no_error(attendant: Attendant, view: View, record: Put) -> None:
    attendant.show(record(STARTED))
    view.gone = True
    attendant.close()
    assert view.closed


def test_why_there_is_no_plain_log_is_known_and_events_are_shown(run_dir: RunDir, view: View, record: Put) -> None:
    run_dir.plain_log.mkdir()
    attendant = Attendant(run_dir, view, "en")
    assert attendant.why_no_log
    attendant.show(record(EVAL))
    attendant.close()
    assert [one.event for one in view.shown] == [EVAL]
