"""The rows of a step with their keys, without a model: what a person sees, copies and leaves out, and why not."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from textual.pilot import Pilot

from engine.contract.leave_out import LeaveOut, read_leave_out
from engine.contract.messages import InputError
from engine.contract.record import RunRecord
from engine.contract.row_losses import RowLoss, StepRows, continued
from engine.contract.rundir import RunDir
from engine.contract.weighed import RowBeginning, WeighedRow
from sft_tui import leaving_out
from sft_tui.screen import rows_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.rows_screen import RowsScreen
from tests.sft_tui.conftest import PLAN, STARTED
from tests.sft_tui.screen.conftest import until, write_run

Play = Callable[[Pilot[int], RowsScreen], Awaitable[None]]


class FakeWeigher:
    """Weighs without a model: the first token of each row is hard."""

    why: InputError | None = None

    def __init__(self, _run: object) -> None:
        self.killed = False

    def __enter__(self) -> "FakeWeigher":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.killed = True

    def beginnings(self, rows: list[RowLoss]) -> dict[int, RowBeginning]:
        return {row.sample: RowBeginning(row.sample, f"ask {row.row}", f"answer {row.row}") for row in rows}

    def weigh(self, row: RowLoss) -> WeighedRow:
        if self.why is not None:
            raise self.why
        return WeighedRow(row.sample, (f"ask {row.row}", "hard", "easy"), ((1, 3),), (7.0, 0.1), "best", 2)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows_screen, "Weigher", FakeWeigher)
    pq.write_table(pa.table({"prompt": list("abcdefgh"), "response": list("stuvwxyz")}), "train.parquet")
    run_dir = write_run(tmp_path / "logs", "sft-small-1", STARTED, PLAN)
    record = run_dir.read_record()
    run_dir.write_record(
        RunRecord("sft-small-1", "sft-small", "train", {**record.config, "train_file": "train.parquet"})
    )
    kept = continued(run_dir, 0, 1, 0)
    for step in range(1, 21):
        hard = 40 * (step == 15)
        rows = tuple(RowLoss(row, row, 5, 5.0 + row + hard * (row == 1)) for row in range(4))
        kept.add(StepRows(step, 1, sum(one.loss for one in rows) / 20, 20, rows=rows))
    return tmp_path / "logs"


def play(logs: Path, steps: Play, step: int = 15, last: int = 0, run: str = "sft-small-1") -> None:
    async def go() -> None:
        app = SftTuiApp(Options(logs))
        async with app.run_test(size=(120, 40)) as pilot:
            app.open_rows(run, step, last)
            await until(pilot, lambda: isinstance(app.screen, RowsScreen))
            screen = app.screen
            assert isinstance(screen, RowsScreen)
            await until(pilot, lambda: screen.state.steps or screen.state.why)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


def shown(screen: RowsScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


def test_the_row_that_made_the_spike_comes_first_with_its_tokens(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await until(pilot, lambda: "hardeasy" in shown(screen))
        lines = shown(screen).splitlines()
        assert "step 15, epoch 1: loss 3.300 (!), 4 rows" in lines[0]
        assert "▸! 69.7 %  9.200       5    1  ask 1 → answer 1" in lines[2]
        assert "losses by the best model (step 2)" in shown(screen)
        assert "████" in shown(screen)
        await pilot.press("down")
        await until(pilot, lambda: "ask 3hardeasy" in shown(screen))
        assert "row 3 of the training file" in shown(screen)

    play(logs, steps)


def test_a_row_is_left_out_and_taken_back(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await pilot.press("x")
        await until(pilot, lambda: "Row 1 is left out" in shown(screen))
        assert list(read_leave_out(Path("train.parquet")).digests) == [1]
        assert "▸x" in shown(screen)
        assert "left out of the next run" in shown(screen)
        await pilot.press("x")
        await until(pilot, lambda: "Row 1 is trained on again" in shown(screen))
        assert not Path("train.parquet.leave-out.json").exists()

    play(logs, steps)


def test_keys_pressed_at_once_leave_out_one_row_after_another(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, known = leaving_out.leave_out, threading.Event()

    def leave_out(data_file: Path, rows: Sequence[int]) -> None:
        known.wait(30)
        slow(data_file, rows)

    monkeypatch.setattr(leaving_out, "leave_out", leave_out)

    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await pilot.press("x", "x")
        known.set()
        await until(pilot, lambda: "Row 1 is trained on again" in shown(screen))
        assert not Path("train.parquet.leave-out.json").exists()

    play(logs, steps)


def test_other_steps_and_spikes_are_reached_by_keys(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        assert "step 20," in shown(screen)
        await pilot.press("right")
        await until(pilot, lambda: "No other step" in shown(screen))
        continued(RunDir(logs / "sft-small-1"), 0, 1, 20).add(StepRows(21, 2, 1.0, 20, rows=(RowLoss(5, 5, 20, 20.0),)))
        await pilot.press("right")
        await until(pilot, lambda: "step 21, epoch 2" in shown(screen))
        await pilot.press("left")
        assert "step 20," in shown(screen)
        await pilot.press("left")
        assert "step 19," in shown(screen)
        await pilot.press("s")
        assert "step 15," in shown(screen)
        await pilot.press("s")
        await until(pilot, lambda: "No other step whose loss jumped" in shown(screen))

    play(logs, steps, step=0)


def test_several_steps_are_shown_together(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        assert "steps 3 to 5: loss 1.300, 12 rows" in shown(screen)
        await pilot.press("end")
        assert screen.state.cursor == 11

    play(logs, steps, 3, 5)


@pytest.mark.parametrize(("step", "said"), [(400, "Kept are 1-20"), (0, "kept no losses")])
def test_a_step_that_is_not_kept_is_a_sentence(logs: Path, step: int, said: str) -> None:
    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        assert said in " ".join(shown(screen).split())
        await pilot.press("x", "y", "down", "left", "s", "pagedown")
        assert screen.state.rows == ()
        await pilot.press("escape")
        assert pilot.app.screen is not screen

    if not step:
        (logs / "sft-small-1" / "rows-rank0.jsonl").unlink()
    play(logs, steps, step)


def test_a_row_that_cannot_be_weighed_says_why_and_the_list_stays(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = InputError("reader_memory", path="train.parquet", why="SIGKILL")
    monkeypatch.setattr(FakeWeigher, "why", why)

    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await until(pilot, lambda: "ran out of memory" in shown(screen))
        await pilot.press("down")
        assert "answer 3" in shown(screen)
        assert "ran out of memory" in shown(screen)  # of no row any more

    play(logs, steps)


def test_the_process_ends_with_the_screen(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await until(pilot, lambda: screen._weigher is not None)
        await pilot.press("escape")
        weigher = screen._weigher
        assert isinstance(weigher, FakeWeigher)
        await until(pilot, lambda: weigher.killed)

    play(logs, steps)


def test_the_text_is_copied(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(RowsScreen, "copy", lambda _screen, words: copied.append(words))

    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await until(pilot, lambda: "hardeasy" in shown(screen))
        await pilot.press("y")
        assert copied == ["ask 1hardeasy"]

    play(logs, steps)


def test_the_list_is_never_read_by_the_thread_that_draws(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def read(data_file: Path) -> LeaveOut:
        readers.append(threading.current_thread())
        return read_leave_out(data_file)

    monkeypatch.setattr(rows_screen, "read_leave_out", read)

    async def steps(pilot: Pilot[int], screen: RowsScreen) -> None:
        await pilot.press("x")
        await until(pilot, lambda: "Row 1 is left out" in shown(screen) and "▸x" in shown(screen))
        await pilot.press("left")
        await until(pilot, lambda: len(readers) >= 4)
        assert threading.main_thread() not in readers

    play(logs, steps)
