"""Runs as lines: columns that stand, names that cannot harm, one line for a status bar."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.events import Record
from engine.contract.messages import Message
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui.event_text import status_name
from sft_tui.listing import print_output, status_line, table
from sft_tui.run_state import RunState, reduce
from sft_tui.runs import Run
from tests.catalogues import TEXTS

from .conftest import EVAL, PLAN, STARTED, step

Put = Callable[..., Record]
STATES = [key.removeprefix("status.") for key in TEXTS["en"] if key.startswith("status.")]
HOSTILE = "\x1b]52;c;aGk=\x07[/x]\u202e"
STOPPED = events.RunEnded(
    "stopped", 0, Message.of("ended_stopped", step=51, steps_total=100, checkpoint="c", resume_option="go on")
)


@pytest.fixture
def run(record: Put, tmp_path: Path) -> Run:
    """A run in its second epoch."""
    state = RunState()
    for event in (STARTED, PLAN, events.Phase("training"), step(50), EVAL, step(51), step(52)):
        state = reduce(state, record(event))
    fields = RunRecord("sft-small-1", "sft-small", "train", to_json(preset("sft-small").config))
    return Run(RunDir(tmp_path / "sft-small-1"), fields, state, alive=True)


def ended(run: Run, end: events.RunEnded = STOPPED) -> Run:
    """The same run, over."""
    return dataclasses.replace(run, alive=False, state=dataclasses.replace(run.state, ended=end))


def test_a_running_run_is_one_line(run: Run) -> None:
    line = (
        "sft-small-1 running · epoch 2/2 · step 52/100 52 % · train loss 10.2500 · eval loss 9.5000 · best BLEU 12.25"
    )
    assert status_line(run, "en").startswith(line)
    assert status_line(run, "en").endswith(" left")
    assert status_line(run, "zh").startswith(
        "sft-small-1 运行中 · 轮 2/2 · 步 52/100 52 % · 训练损失 10.2500 · 评估损失 9.5000 ·"
    )


def test_a_run_before_its_first_step_shows_its_phase(run: Run) -> None:
    early = dataclasses.replace(run, state=RunState(phase=events.Phase("tokenizing"), attempt=1))
    assert status_line(early, "en") == "sft-small-1 starting · tokenizing"


def test_a_resuming_run_shows_its_phase_and_steps_done(run: Run) -> None:
    state = dataclasses.replace(run.state, attempt=2, phase=events.Phase("loading"))
    line = status_line(dataclasses.replace(run, state=state), "en")
    assert line.startswith("sft-small-1 starting · loading · epoch 2/2 · step 52/100 52 %")


def test_an_ended_run_shows_its_scores_and_no_time_left(run: Run) -> None:
    line = status_line(ended(run), "en")
    assert line == "sft-small-1 stopped · epoch 2/2 · step 52/100 52 % · eval loss 9.5000 · best BLEU 12.25"


def test_a_test_shows_its_scores(run: Run) -> None:
    tested = dataclasses.replace(run, alive=False, state=RunState(evaluation=EVAL, best=EVAL, ended=STOPPED))
    assert status_line(tested, "en") == "sft-small-1 stopped · eval loss 9.5000 · best BLEU 12.25"


def test_the_table_has_the_evaluations_loss_and_the_best_score(run: Run) -> None:
    head, row = table([run], "en")
    assert row[head.index("EVAL") :].startswith("9.5000")
    assert row[head.index("BEST") :].startswith("BLEU 12.25")
    assert "10.2500" not in row  # of the last step alone


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("reason", [reason for reason in STATES if not reason.endswith("ing")])
def test_the_end_is_in_the_readers_language(run: Run, reason: str, lang: Lang) -> None:
    line = status_line(ended(run, dataclasses.replace(STOPPED, reason=reason)), lang)
    assert line.startswith(f"sft-small-1 {say(f'status.{reason}', lang)} · ")
    assert "\n" not in line


@pytest.mark.parametrize(("asked", "en", "zh"), [("stop", "stopping", "停止中"), ("pause", "pausing", "暂停中")])
def test_a_stop_request_is_shown_until_the_run_ends(run: Run, asked: str, en: str, zh: str) -> None:
    run.run_dir.path.mkdir()
    run.run_dir.request_stop(asked)
    assert status_line(run, "en").startswith(f"sft-small-1 {en} · ")
    assert status_line(run, "zh").startswith(f"sft-small-1 {zh} · ")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_columns_are_aligned_with_their_headings(run: Run, lang: Lang) -> None:
    wide = dataclasses.replace(run, run_dir=RunDir(Path("logs/微调-1")))
    head, *rows = table([run, wide, ended(run)], lang)
    place = cell_len(head[: head.index("BEST" if lang == "en" else "最佳")])
    for row in rows:
        cells = row[: len(row)]
        before = next(cells[:end] for end in range(len(cells)) if cell_len(cells[:end]) == place)
        assert cells[len(before) :].startswith("BLEU 12.25")
    assert "Stopped at step 51" in rows[2] or "已按要求停在第 51 步" in rows[2]


def test_the_table_fits_the_terminal(run: Run) -> None:
    for columns in (40, 80, 120):
        lines = table([ended(run), dataclasses.replace(run, run_dir=RunDir(Path("logs/" + "微" * 30)))], "zh", columns)
        assert max(map(cell_len, lines)) <= columns


def test_no_escape_gets_through_the_table(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    end = events.RunEnded("failed", 1, Message.of("ended_failed", rank=0, phase=HOSTILE, why=HOSTILE, log=HOSTILE))
    bad = dataclasses.replace(
        ended(run, end),
        run_dir=RunDir(Path(f"logs/{HOSTILE}")),
        record=dataclasses.replace(run.record, preset=HOSTILE),
    )
    run.run_dir.path.mkdir()
    run.run_dir.trainer_output.write_text(HOSTILE + "\n二\n")
    print_output(run.run_dir)
    shown = "\n".join([*table([bad], "en"), status_line(bad, "en"), capsys.readouterr().out])
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "[/x]" in shown


def test_every_end_status_has_a_chinese_name() -> None:
    source = (Path(events.__file__).parent / "certificate.py").read_text()
    reasons = {"finished", "stopped", "paused", "orphaned", "terminated", "refused", "busy", "diverged"}
    certified = ("failed", "out_of_memory", "killed", "hung", "machine_restarted", "machine_lost", "link_lost")
    reasons |= {word for word in certified if word in source}
    assert reasons <= set(STATES)
    assert status_name("out_of_memory", "en") == "out of memory"
