"""The reports on models, as text."""

from dataclasses import replace

from engine.contract.messages import Message
from engine.contract.model_reports import ConvertedReport, FetchedReport
from sft_tui import model_files

REPORT = FetchedReport(
    "me/tiny", "huggingface", "https://hub", "0123456789abcdef", "my models/tiny", 7, 46_850_000, 100,
    {"code": 1, "weights": 2}, "apache-2.0",
)  # fmt: skip


def test_a_download_says_where_it_is_and_what_was_left_out() -> None:
    lines = list(model_files.fetched_lines(REPORT, "en"))
    assert "me/tiny is in my models/tiny: revision 0123456789ab, 7 files, 46.85 MB" in lines[0]
    assert lines[1] == "Left out: 1 file of code, 2 files of weights in other formats."
    assert "apache-2.0" in lines[2]
    assert lines[3].endswith("--pretrained_model 'my models/tiny'")


def test_a_model_that_was_there_is_reported_as_such() -> None:
    lines = list(model_files.fetched_lines(replace(REPORT, existed=True, left_out={}, licence=""), "en"))
    assert lines[0].startswith("my models/tiny already holds me/tiny")
    assert len(lines) == 2


def test_foreign_words_reach_the_terminal_harmless() -> None:
    text = "\n".join(model_files.fetched_lines(replace(REPORT, licence="\x1b[2J", id="a\x07"), "zh"))
    assert "\x1b" not in text
    assert "\x07" not in text


CONVERTED = ConvertedReport(
    "x.gguf", "my models/x", "Tiny", "llama", 134_515_008, "bfloat16", 269_060_552, 49_152, ("<|im_end|>", "<|end|>"),
    template=True, quantized=("Q4_1", "Q8_0"), notices=(Message.of("gguf_unused", count="3"),), licence="apache-2.0",
)  # fmt: skip


def test_a_conversion_says_what_came_of_it_and_what_was_lost() -> None:
    assert list(model_files.converted_lines(CONVERTED, "en")) == [
        "Tiny is in my models/x: llama, 134,515,008 parameters in bfloat16, 269.06 MB.",
        "Tokenizer: 49,152 tokens, the same ids as in the file; a reply ends with <|im_end|>, <|end|>.",
        "Chat template: the file's own.",
        "Its weights were quantized (Q4_1, Q8_0): they are close to the original model's, not equal.",
        "3 of the numbers in the file have no place in the model and were left out.",
        "Licence: apache-2.0.",
        "Next: sft-tui check chat --pretrained_model 'my models/x'",
    ]


def test_a_model_without_a_template_says_so() -> None:
    lines = list(model_files.converted_lines(replace(CONVERTED, template=False, quantized=(), stops=()), "en"))
    assert any("--chat_template" in line for line in lines)
    assert not any("quantized" in line for line in lines)
