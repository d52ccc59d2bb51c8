"""A model as text."""

from dataclasses import replace
from typing import get_args

import pytest

from engine.contract.facts import DecoderFacts, ModelFacts, Sizes, TokenizerFacts
from engine.contract.messages import Message
from engine.contract.model_reports import ShownModel, TemplateFacts, TrainingNeed
from engine.contract.texts import Lang
from sft_tui import model_view
from sft_tui.text import width

DECODER = DecoderFacts(30, 0, 576, 1536, 9, 3, 64, 0, 8192, tied=True)
MODEL = ModelFacts(
    "/m/smol", "llama", 49152, Sizes(134_515_008, 134_515_008, 0), 269_060_552, title="smol", kind="causal",
    dtype="bf16", decoder=DECODER,
)  # fmt: skip
TEMPLATE = TemplateFacts("ChatML", "<|im_end|>", True, False, "<|im_start|>user\nHi<|im_end|>\n" * 30)
NEEDS = (
    TrainingNeed("whole", "chat", {}, 134_515_008, 4_080_000_000),
    TrainingNeed("frozen", "chat", {"freeze": "embeddings,layers.0-14"}, 53_102_016, 2_520_000_000),
    TrainingNeed("lora", "chat-lora", {}, 4_884_480, 1_760_000_000),
)
SHOWN = ShownModel(MODEL, NEEDS, 1024, TokenizerFacts(49152), TEMPLATE, "apache-2.0", "me/smol", "0123456789abcdef")


def text(found: ShownModel = SHOWN, free: int = 3 * 10**9, lang: Lang = "en") -> str:
    return "\n".join(model_view.lines(found, "my models/smol", free, lang))


def test_a_model_is_described_in_words() -> None:
    shown = text()
    parts = (
        "smol", "causal (llama)", "30 layers, width 576, 9 heads (3 for keys", "134,515,008 parameters, bf16",
        "49,152 tokens", "ChatML; an answer ends with <|im_end|>", "apache-2.0", "me/smol @ 0123456789ab",
    )  # fmt: skip
    for part in parts:
        assert part in " ".join(shown.split())
    assert "the reasoning of earlier answers is dropped" in " ".join(shown.split())


def test_each_way_of_training_has_its_command_and_whether_it_fits() -> None:
    shown = text()
    assert "All weights (134,515,008 learn): 4.08 GB, too large now (3.00 GB free)" in shown
    assert "LoRA r 16 (4,884,480 learn): 1.76 GB, fits (3.00 GB free)" in shown
    assert "sft-tui run chat --pretrained_model 'my models/smol' --freeze embeddings,layers.0-14" in shown
    assert "sft-tui run chat-lora --pretrained_model 'my models/smol'" in shown


@pytest.mark.parametrize("lang", get_args(Lang))
def test_lines_fit_80_columns_but_for_commands(lang: Lang) -> None:
    lines = text(lang=lang).splitlines()
    assert all(width(line) <= 80 or "sft-tui run" in line for line in lines)
    assert sum("<|im_start|>user" in line for line in lines) <= model_view.MOST_EXAMPLE


def test_what_is_not_there_is_said() -> None:
    bad = Message.of("chat_template_missing", path="/m/smol")
    shown = text(replace(SHOWN, tokenizer=None, template=bad, licence="", source="", needs=(NEEDS[0],)))
    assert "name one with --tokenizer" in shown
    assert "Two turns" not in shown
    assert "licence" not in shown


def test_a_need_that_is_not_predicted_is_left_open() -> None:
    assert "(134,515,008 learn): -\n" in text(replace(SHOWN, needs=(replace(NEEDS[0], bytes=0),))) + "\n"


def test_foreign_words_reach_the_terminal_harmless() -> None:
    hostile = replace(TEMPLATE, example="\x1b[2J\x07", stop="\x1b]0;x")
    assert "\x1b" not in text(replace(SHOWN, template=hostile, licence="\x9b1m"))


def test_windows_of_sliding_attention_are_named() -> None:
    sliding = replace(SHOWN, model=replace(MODEL, decoder=replace(DECODER, window=512, sliding_layers=25)))
    assert "25 of the layers see 512 tokens back" in text(sliding)
