"""What the headless mode prints, and where."""

import dataclasses
import io
import json
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from engine.contract import events
from engine.contract.events import Record, decode
from engine.contract.messages import Message
from engine.contract.scores import all_measures
from engine.contract.texts import Lang
from sft_tui.headless import BarsView, EventView, JsonView, PlainView

from .conftest import ENDED, EVAL, OLD_EVAL, PLAN, STARTED, step

Put = Callable[..., Record]

HOSTILE = "\x1b]52;c;aGk=\x07[/x]\u202e"


class Screen(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain(lang: Lang, *records: Record) -> tuple[str, str]:
    out, notes = io.StringIO(), io.StringIO()
    show(PlainView(lang, out, notes), *records)
    return out.getvalue(), notes.getvalue()


def show(view: EventView, *records: Record) -> None:
    for record in records:
        view.show(record)
    view.close()


def test_the_start_shows_settings_memory_and_disk(record: Put) -> None:
    _, notes = plain("en", record(STARTED))
    assert "Configuration sft-small" in notes
    assert "epochs: 3 -> 2" in notes
    assert "learn_rate: 5e-05 -> 3e-05" in notes
    assert "Memory available: 13.15 GB, disk space available: 44.79 GB" in notes
    assert "使用配置 sft-small" in plain("zh", record(STARTED))[1]


def test_the_start_has_the_lines_of_the_guide(record: Put) -> None:
    chinese, english = plain("zh", record(STARTED))[1], plain("en", record(STARTED))[1]
    for line in (
        "自定义参数：",
        "低内存模式训练 - 针对16G内存优化",
        "使用LowMemDataset: 支持多GPU + 低内存模式，按需从磁盘读取数据",
    ):
        assert line in chinese
    for line in ("TrainConfigSFTSmall", "Custom parameters:", "Low-memory training", "Using LowMemDataset"):
        assert line in english
    tested = plain("en", record(dataclasses.replace(STARTED, job="test", overrides={})))[1]
    assert "Custom parameters: none" in tested
    assert "Low-memory training" not in tested  # nothing is trained
    larger = plain("zh", record(dataclasses.replace(STARTED, preset="sft")))[1]
    assert "16G" not in larger  # which that preset is not made for


def test_the_scale_of_bleu_is_explained_once(record: Put) -> None:
    records = [record(STARTED), record(PLAN), record(EVAL), record(dataclasses.replace(EVAL, epoch=2, step=100))]
    out, notes = plain("en", *records)
    assert notes.count("0 to 100") == 1
    assert "0 to 100" not in out
    assert "以 0 到 100 计" in plain("zh", *records)[1]


@pytest.mark.parametrize("evaluation", [EVAL, OLD_EVAL], ids=["new", "old"])
def test_every_score_has_its_signature_at_the_first_evaluation(record: Put, evaluation: events.Eval) -> None:
    later = dataclasses.replace(evaluation, epoch=2, step=100)
    notes = plain("en", record(STARTED), record(PLAN), record(evaluation), record(later))[1]
    for one in all_measures(evaluation).values():
        assert notes.count(one.signature) == 1


def test_a_test_prints_every_score_with_its_signature(record: Put) -> None:
    test = dataclasses.replace(STARTED, job="test")
    out, _ = plain("zh", record(test), record(dataclasses.replace(EVAL, epoch=0)))
    scores = out.splitlines()[1:]
    assert [line.split()[0] for line in scores] == ["损失", "困惑度", "BLEU", "chrF", "ROUGE-L", "完全匹配率"]
    for line, one in zip(scores, all_measures(EVAL).values(), strict=True):
        assert line.endswith(one.signature)
    ends = {
        cell_len(line[: -len(one.signature)]) for line, one in zip(scores, all_measures(EVAL).values(), strict=True)
    }
    assert len(ends) == 1  # columns are aligned, also where names are wide


def test_a_line_is_printed_every_logging_steps(record: Put) -> None:
    steps = [record(step(n)) for n in range(1, 101)]
    lines = plain("en", record(STARTED), record(PLAN), *steps)[0].splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, 50, 100]
    assert "loss  10.2500" in lines[0]
    assert "epoch 2/2" in lines[2]
    assert len({line.index("loss") for line in lines}) == 1  # columns do not move


def test_scores_are_data_and_notices_are_notes(record: Put) -> None:
    out, notes = plain("en", record(EVAL), record(events.Notice(Message("head_frozen"))), record(ENDED))
    assert "BLEU 12.25, loss 9.5000, perplexity 13359.73, chrF 33.50, ROUGE-L 25.00, exact match 3.12 %" in out
    assert "note: The output head shares" in notes
    assert "Peak memory of the trainer: 2.90 GB" in notes


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_an_error_says_what_and_what_to_do(record: Put, lang: Lang) -> None:
    args = {"what": "training file", "what_zh": "训练文件", "path": "a.parquet", "setting": "train_file"}
    out, notes = plain(lang, record(events.RunEnded("refused", 2, Message("file_missing", args))))
    assert out == ""
    what, fix = notes.splitlines()
    assert "a.parquet" in what
    assert "--train_file" in fix


def hostile_records(record: Put) -> list[Record]:
    message = Message("folder_unwritable", {"path": HOSTILE, "why": HOSTILE, "setting": "logs"})
    return [
        record(dataclasses.replace(STARTED, preset=HOSTILE, device=HOSTILE, overrides={HOSTILE: [HOSTILE, HOSTILE]})),
        record(events.Phase(HOSTILE, 1, 2)),
        record(events.Sample(1, 50, 3, HOSTILE, HOSTILE, HOSTILE)),
        record(dataclasses.replace(EVAL, signature=HOSTILE)),
        record(events.Notice(message)),
        record(events.Warning(Message(HOSTILE, {}))),
        record(events.RunEnded("failed", 1, message)),
    ]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_foreign_text_is_never_printed_raw(record: Put, lang: Lang) -> None:
    for printed in plain(lang, *hostile_records(record)):
        assert "[/x]" in printed
        assert not set("\x1b\x07\u202e") & set(printed)


def test_bars_survive_markup_and_hostile_text(record: Put) -> None:
    screen = Screen()
    show(BarsView("en", Screen(), screen), record(PLAN), *hostile_records(record), record(step(1)))
    assert "[/x]" in screen.getvalue()
    assert "\x1b]52" not in screen.getvalue()
    assert "\u202e" not in screen.getvalue()


def test_bars_show_run_and_epoch(record: Put) -> None:
    screen = Screen()
    show(BarsView("en", Screen(), screen), record(PLAN), *(record(step(n)) for n in range(1, 61)))
    assert "60/100" in screen.getvalue()
    assert "epoch 2/2" in screen.getvalue()
    assert "10/50" in screen.getvalue()
    assert "loss 10.2500" in screen.getvalue()


def test_steps_go_to_a_piped_stdout_next_to_the_bars(record: Put) -> None:
    out = io.StringIO()
    show(BarsView("en", out, Screen()), record(STARTED), record(PLAN), record(step(1)))
    assert out.getvalue().startswith("step   1/100")


def test_json_prints_the_events_as_they_are(record: Put) -> None:
    out = io.StringIO()
    records = [record(STARTED), record(step(1, loss=float("nan"))), record(ENDED)]
    show(JsonView(out), *records)
    assert [json.loads(line)["kind"] for line in out.getvalue().splitlines()] == ["run_started", "step", "run_ended"]
    assert decode(out.getvalue().splitlines()[0].encode()) == records[0]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1.0, 1e300])
def test_any_loss_can_be_printed(record: Put, loss: float) -> None:
    assert "loss" in plain("en", record(PLAN), record(step(1, loss=loss, grad_norm=loss)))[0]


def test_a_phase_is_printed_once_until_it_comes_back(record: Put) -> None:
    files = [record(events.Phase("hashing", done, 5)) for _ in range(3) for done in (0, 5)]
    after = [record(events.Phase(name, 0, 0)) for name in ("loading", "training", "hashing", "hashing")]
    _, notes = plain("en", *files, *after)
    assert notes.splitlines() == ["hashing 0/5", "loading …", "hashing …"]
