"""The one next step, for each kind of folder."""

from dataclasses import replace

import pytest

from engine.contract.glances import DataGlance, ModelGlance
from sft_tui.found import DataFile, Found, ModelPlace, Progress, RunHere
from sft_tui.next_steps import Step, next_steps, values_of
from sft_tui.queue.entries import Queue, added

RAW = DataFile("chats.jsonl", 10, 5, DataGlance("jsonl", 100, True, form="messages", shape="messages"))
READY = DataGlance("parquet", 90, True, ready=True)
TRAIN, VALID = DataFile("data/x_train.parquet", 10, 7, READY), DataFile("data/x_valid.parquet", 10, 7, READY)
GLANCE = ModelGlance("smol", "llama", "causal", 134_515_008, "bf16", 1, True, True)
MODEL = ModelPlace("models/smol", about=GLANCE)
BEST = ModelPlace("model_save/x/best", "best", "mine-1", about=GLANCE)
STOPPED = RunHere("mine-3", "chat-lora", "unfinished", 61, 100)
FINISHED = RunHere("mine-1", "chat-lora", "finished", 100, 100, "model_save/x/best", written=9)
RUNNING = replace(STOPPED, state="running")
DATA = (RAW, TRAIN, VALID)
QUEUE = added(Queue(), "chat-lora", {})


@pytest.mark.parametrize(("found", "kinds"), [
    (Found(), ["demo", "launch"]),
    (Found((RAW,)), ["import", "demo", "launch"]),
    (Found(DATA), ["model", "import", "demo", "launch"]),
    (Found(DATA, (MODEL,)), ["learn", "model", "import", "demo", "launch"]),
    (Found((replace(RAW, changed=8), TRAIN, VALID), (MODEL,)), ["import", "learn", "model", "demo", "launch"]),
    (Found((), (MODEL,)), ["data", "demo", "launch"]),
    (Found(DATA, (MODEL,), (STOPPED,)), ["resume", "learn", "model", "import", "launch"]),
    (Found(DATA, (MODEL, BEST), (FINISHED,)), ["talk", "test", "learn", "model", "import", "launch"]),
    (Found(DATA, (MODEL,), (replace(FINISHED, written=3),)), ["learn", "model", "talk", "test", "import", "launch"]),
    (Found(DATA, (BEST,)), ["learn", "model", "import", "demo", "launch"]),
    (Found((), (), (RUNNING,)), ["watch", "launch"]),
    (Found((), (), (RUNNING,), queue=QUEUE), ["watch", "queue", "launch"]),
    (Found((), (), (replace(STOPPED, preset="demo"),), Progress("second", False)), ["demo", "launch"]),
    (Found((), (), (replace(FINISHED, preset="demo-t5-pretrain", model=""),), Progress("between", False)),
     ["demo", "launch"]),
    (Found((), (), (replace(FINISHED, preset="demo"),), Progress("done", False)), ["talk", "launch"]),
])  # fmt: skip
def test_the_next_step_comes_first(found: Found, kinds: list[str]) -> None:
    assert [step.kind for step in next_steps(found)] == kinds


def test_a_best_model_is_not_trained_again_if_others_are_here() -> None:
    steps = [step for step in next_steps(Found(DATA, (BEST, MODEL))) if step.kind == "learn"]
    assert [step.subject for step in steps] == ["models/smol"]
    assert steps[0].files["train_file"] == "data/x_train.parquet"


@pytest.mark.parametrize(("step", "command"), [
    (Step("import", "-a b.jsonl"), "sft-tui data import './-a b.jsonl'"),
    (Step("resume", "mine-3"), "sft-tui resume mine-3"),
    (Step("demo"), "sft-tui demo"),
    (Step("talk", "mine-1"), "sft-tui reply --run mine-1"),
    (Step("launch"), "sft-tui"),
    (Step("learn", "m", {"train_file": "t.parquet"}),
     "sft-tui run chat-lora --train_file t.parquet --pretrained_model m"),
])  # fmt: skip
def test_a_step_is_a_command(step: Step, command: str) -> None:
    assert step.command == command


def test_a_model_of_another_family_has_its_own_preset() -> None:
    t5 = ModelPlace("models/t5", about=replace(GLANCE, kind="t5", family="t5"))
    assert next_steps(Found(DATA, (t5,)))[0].command.startswith("sft-tui run sft-small --train_file")


def test_values_that_the_preset_has_are_left_out() -> None:
    files = {"train_file": "data/chat_train.parquet", "validation_file": "v.parquet"}
    assert values_of("m", files, "chat") == {"validation_file": "v.parquet", "pretrained_model": "m"}
