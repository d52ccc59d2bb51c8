"""Runs, reports and views with everything in them, made without a process or a file."""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.events import Envelope, Event, Record
from engine.contract.facts import DataFacts, Histogram, LengthFacts
from engine.contract.memory import MemoryPrediction
from engine.contract.messages import Message
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from engine.contract.texts import Lang, Phrase
from sft_tui import starting
from sft_tui.curves import Curves
from sft_tui.log_lines import LogLine
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Action, Set, Start
from sft_tui.run_state import RunState, reduce
from sft_tui.runs import Run
from sft_tui.screen import actions, app, chart_panel, fixing_screen, launch_view
from sft_tui.screen import launch_screen as launching
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import ActionScreen, Options
from sft_tui.screen.here_screen import HereScreen
from sft_tui.screen.import_screen import ImportScreen
from sft_tui.screen.ink import Line, columns
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.model_screen import ModelScreen
from sft_tui.screen.pick_screen import PickScreen
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.screen.run_screen import RunScreen
from sft_tui.screen.runs_contents import RunsView
from sft_tui.screen.runs_screen import RunsScreen
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.some_facts import file_facts, step_facts

SNAPSHOTS = Path(__file__).with_name("snapshots")
SIZES = ((80, 24), (120, 40))


def plain(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines) + "\n"


def same_as_kept(name: str, lines: list[Line]) -> None:
    """Compares a screen with the one that was kept; SFT_TUI_KEEP_SCREENS=1 keeps those of now."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("SFT_TUI_KEEP_SCREENS"):
        path.write_text(plain(lines), encoding="utf-8")
    assert plain(lines) == path.read_text(encoding="utf-8"), f"{path} differs: look at it, then SFT_TUI_KEEP_SCREENS=1"


def story(ended: events.RunEnded | None = None) -> Iterator[Event]:
    """A run of 100 steps on two GPUs, at step 71 after two evaluations."""
    yield STARTED
    yield PLAN
    yield events.Phase("training", 0, 100)
    for number in range(1, 72):
        loss = float("nan") if number == 40 else 4.0 * 0.98**number + (number * 7919 % 13) / 40
        yield step(number, loss=loss, lr=1e-3 / number, seconds_forward_backward=0.3)
        if number in (30, 60):
            score = 8.5 + number / 10
            yield dataclasses.replace(EVAL, step=number, epoch=number // 30, loss=loss + 0.2, bleu=score)
            for row in (0, 1):
                words = (
                    "肝穿刺活检是否有危险？",
                    "一般没有危险，穿刺时会避开大的血管。",
                    f"没有危险{'。' * (number // 30)}",
                )
                yield events.Sample(number // 30, number, row, *words)
    yield events.Checkpoint(1, 60, "out/checkpoints/step-00000060", 240_000_000, 1.4, [])
    for number in range(30):
        yield events.Host(16_000_000_000, 6_900_000_000, [2_900_000_000 + number, 2_800_000_000], 96.0, 44_790_000_000)
    for index in (0, 1):
        readings = {
            "utilization": "93", "memory_used": "6549825945", "memory_total": "12884901888", "temperature": "71",
            "power": "148.2", "power_limit": "170.0",
        }  # fmt: skip
        yield events.Gpu(index, "NVIDIA GeForce RTX 3060", readings)
    if ended is not None:
        yield ended


def run_of(reported: Iterator[Event], *, alive: bool = True, name: str = "sft-small-3") -> tuple[Run, Curves]:
    state, curves = RunState(), Curves()
    for number, event in enumerate(reported):
        record = Record(Envelope("2026-01-05T09:14:07.000Z", number * 0.4, 1, "rank0", number), event)
        state = reduce(state, record)
        curves.add(record)
    asked = RunRecord(name, "sft-small", "train", {**to_json(preset("sft-small").config), "output_dir": "none"})
    return Run(RunDir(Path("/srv/train/logs") / name), asked, state, alive), curves


LOG = [
    LogLine("09:14:07", "note", "Configuration sft-small: fine-tune on a small data set"),
    LogLine("09:20:01", "step", "70/100  2.3140  lr 9.1e-04"),
    LogLine("09:20:11", "data", "evaluation of epoch 2: loss 2.40, BLEU 14.50, 64 rows in 3 s"),
    LogLine("09:20:12", "warning", "warning: /data 只剩 2 GB"),
    LogLine("09:20:13", "note", "checkpoint of step 60 saved (240.00 MB, 1 s)"),
]
KILLED = events.RunEnded(
    "out_of_memory",
    1,
    Message("ended_diverged", {"step": 71, "loss": "nan", "grad_norm": "inf", "rows": "4, 7", "rank": "0",
                               "resume_option": "sft-tui resume sft-small-3"}),
    {"rows_rank0": "4, 7", "stack": "a\nb"},
    {"learn_rate": 2.5e-5},
)  # fmt: skip


def run_screen(lang: Lang = "en", ended: events.RunEnded | None = None, **selected: Any) -> RunView:
    run, curves = run_of(story(ended), alive=ended is None)
    return RunView(run, curves, LOG, Selection(**selected), lang=lang)


FINDINGS = [
    Finding("error", "file_missing", "pretrained_model",
            {"what": "pretrained model", "what_zh": "预训练模型", "path": "model_save/chat_small_t5.best.bin",
             "setting": "pretrained_model", "advice": "Put it there.", "advice_zh": "请放入模型。"},
            (Start("pretrain"), Set("sft-small", {}, {}))),
    Finding("warning", "rows_truncated", "train_file",
            {"path": "data/train.parquet", "cut_rows": 212, "cut_tokens": 9_310, "rows": 5000, "limit": 512,
             "share": "3.1 %", "longest": 871}),
    Finding("ok", "rows", "train_file",
            {"path": "data/train.parquet", "rows": 5000, "prompt": 31, "label": 99, "scripts": "Han 98 %",
             "prompts": Phrase("parts.prompts"), "responses": Phrase("parts.responses")}),
    Finding("ok", "memory", "memory", {"total": "3.10 GB", "free": "13.20 GB", "items": "weights 0.7 GB"}),
    Finding("ok", "disk", "output_dir", {"path": "model_save", "need": "2.90 GB", "free": "44.80 GB", "items": "-"}),
]  # fmt: skip
COUNTS = (3, 9, 40, 90, 70, 30, 12, 5, 3, 2, 1, 1, *[1] * 12)
LENGTHS = LengthFacts(99, 400, 871, Histogram(tuple(40.0 * n for n in range(25)), COUNTS))
FACTS = DataFacts(train_file=file_facts(label=LENGTHS), steps=step_facts(per_epoch=313, total=939))


LEARNING = Phrase.of(
    "learning.some", model="chat_small_t5 · t5 · freeze encoder, embeddings", trained="107.0 M", total="188.0 M"
)


def launch_screen(lang: Lang = "en", **more: Any) -> launch_view.LaunchView:
    needs = MemoryPrediction({"weights": 700_000_000, "runtime": 515_000_000}, "training")
    report = Report(FINDINGS, FACTS, needs, learning=LEARNING)
    config = dataclasses.replace(preset("sft-small").config, epochs=5)
    going = {"sft-small": launch_view.Resumable("sft-small-3", 570, 939)}
    values = {"values": {"epochs": 5}, "config": config, "report": report, "resumable": going, **more}
    return launch_view.LaunchView("sft-small", lang=lang, **values)


def runs_screen(lang: Lang = "en", *, marked: bool = False, **more: Any) -> RunsView:
    one, curves = run_of(story(), name="sft-small-3")
    other, others = run_of(story(KILLED), alive=False, name="sft-small-2")
    other.record.config["learn_rate"] = 3e-5
    both = frozenset({"sft-small-3", "sft-small-2"}) if marked else frozenset()
    return RunsView([one, other], 1, both, {"sft-small-3": curves, "sft-small-2": others}, lang=lang, **more)


WIDTHS, HEIGHTS = st.integers(40, 300), st.integers(10, 80)


def exact(lines: list[Line], width: int, height: int) -> None:
    assert len(lines) == height
    assert {columns(line) for line in lines} == {width}


def log_of(count: int) -> list[LogLine]:
    return [LogLine("09:14:07", "note", f"line {number}.", number) for number in range(1, count + 1)]


def curve_screen(metric: str, **step_values: Any) -> RunView:
    reported = [STARTED, PLAN, *(step(number, lr=1e-3 / number, **step_values) for number in range(1, 30))]
    run, curves = run_of(iter(reported))
    return RunView(run, curves, [], Selection(metric=metric, page="chart"))


def chart_rows(view: RunView) -> list[Line]:
    return chart_panel.draw(view, 80, 20)[:-2]


SCREENS: dict[str, type[ActionScreen]] = {
    actions.HERE: HereScreen,
    actions.PICK: PickScreen,
    actions.IMPORT: ImportScreen,
    actions.MODEL: ModelScreen,
    actions.LAUNCH: LaunchScreen,
    actions.RUN: RunScreen,
    actions.RUNS: RunsScreen,
}


def write_run(logs: Path, name: str, *reported: events.Event) -> RunDir:
    run_dir = RunDir(logs / name)
    run_dir.path.mkdir(parents=True)
    config = {**to_json(preset("sft-small").config), "output_dir": str(logs.parent / "out")}
    run_dir.write_record(RunRecord(name, "sft-small", "train", config))
    log = EventWriter(run_dir.events, "rank0", 1)
    for event in reported:
        log.write(event)
    log.close()
    return run_dir


async def until(pilot: Pilot[int], holds: Callable[[], object]) -> None:
    while not holds():
        await pilot.pause(0.01)


class FakeCommand:
    """Stands for a command behind the screen, which ends when the test says so."""

    ran: ClassVar[list["FakeCommand"]] = []

    def __init__(
        self, arguments: tuple[str, ...], _lang: Lang, done: Callable[[int, str], None], shown: str = ""
    ) -> None:
        self.arguments, self.done, self.ended, self.shown = tuple(arguments), done, False, shown
        FakeCommand.ran.append(self)

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    ended = events.RunEnded(
        "finished", 0, Message("ended_tested", {"model": "m", "rows": 3, "path": "x", "loss": "1", "bleu": "2"})
    )
    write_run(tmp_path / "logs", "sft-small-1", STARTED, PLAN, *(step(n) for n in range(1, 60)), EVAL, ended)
    return tmp_path / "logs"


Steps = Callable[[Pilot[int], LaunchScreen], Awaitable[None]]

SOUND = Report([Finding("ok", "plan", "time", {"per_epoch": 5, "total": 10, "batch": 8, "peak": 1.0})])


def report(*actions: Action) -> Report:
    args = {"path": "x", "cut_rows": 1, "cut_tokens": 2, "rows": 3, "limit": 4, "share": "5 %", "longest": 6}
    return Report([Finding("error", "rows_truncated", "train_file", args, actions)])


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays steps on the screen, with a report in place of the check."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launching, "SETTLED_SECONDS", 0.0)

    def play(found: Report | Callable[..., Report], steps: Steps, lang: Lang = "en") -> None:
        monkeypatch.setattr(launching, "check", found if callable(found) else lambda *_: found)

        async def go() -> None:
            app = SftTuiApp(Options(Path("logs"), lang))
            async with app.run_test(size=(120, 40)) as pilot:
                await pilot.press("n")
                await until(pilot, lambda: isinstance(app.screen, LaunchScreen) and app.screen.is_mounted)
                screen = app.screen
                assert isinstance(screen, LaunchScreen)
                screen.choose("sft-small")
                if not callable(found):
                    await until(pilot, lambda: screen.state.report is found)
                await steps(pilot, screen)

        asyncio.run(asyncio.wait_for(go(), 60))

    return play


def shown(screen: LaunchScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[FakeCommand]:
    """The commands that are run behind the screen."""
    FakeCommand.ran = []
    for module in (fixing_screen, app):
        monkeypatch.setattr(module, "Background", FakeCommand)
    return FakeCommand.ran


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was planned and shown as a run, in place of being started."""
    found: list[Any] = []
    monkeypatch.setattr(starting, "plan_run", lambda name, values, **how: (name, dict(values), how))
    monkeypatch.setattr(SftTuiApp, "start_run", lambda _app, record: found.append(record))
    monkeypatch.setattr(SftTuiApp, "open_run", lambda _app, name: found.append(name))
    return found
