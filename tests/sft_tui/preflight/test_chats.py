"""What the facts on conversations mean for a run."""

from dataclasses import replace

import pytest

from engine.contract.config import override
from engine.contract.facts import ChatFacts, DataFacts
from engine.contract.presets import preset
from engine.contract.texts import Lang
from sft_tui.preflight.chats import of_files
from sft_tui.preflight.finding import Finding
from tests.sft_tui.some_facts import file_facts

CONFIG, _ = override(preset("sft-small").config, {"train_file": "a.parquet"})
USUAL = ChatFacts(conversations=1200, answers=3000, split=0, too_long=0, open=0, stops={"<|im_end|>": 3000})
MANY = ChatFacts(conversations=1200, answers=3000, split=7, too_long=5, open=3, stops={"<|im_end|>": 2, "</s>": 1})


def found(chat: ChatFacts | None, **more: int) -> dict[str, Finding]:
    facts = DataFacts(train_file=file_facts(chat=chat, **more))
    return {finding.code: finding for finding in of_files(CONFIG, facts)}


def test_pairs_say_nothing_of_conversations() -> None:
    assert found(None) == {}


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        ("en", "a.parquet: 3,000 answers of 1,200 conversations to learn, in 9 rows, 10.0 % of their tokens; "
               "each ends with <|im_end|>."),
        ("zh", "a.parquet：学习 1,200 段对话中的 3,000 个回答，共 9 行，占其词元的 10.0 %；"
               "每个回答以 <|im_end|> 结束。"),
    ],
)  # fmt: skip
def test_what_is_learned_is_said_with_the_token_that_ends_it(lang: Lang, said: str) -> None:
    assert list(found(USUAL)) == ["chats"]
    assert found(USUAL)["chats"].what(lang) == said


def test_what_is_split_and_left_out_is_counted() -> None:
    seen = found(MANY, turns_longest=300)
    assert {code: one.level for code, one in seen.items()} == {
        "chats": "ok", "chats_split": "ok", "answers_left_out": "warning", "chats_open": "ok"
    }  # fmt: skip
    assert "7 of 1,200 conversations have a row for each answer" in seen["chats_split"].what("en")
    assert "5 answers left out that do not fit 64 tokens" in seen["answers_left_out"].what("en")
    assert "300 tokens" in seen["answers_left_out"].fix("en")
    assert seen["chats"].what("en").endswith("each ends with <|im_end|>, </s>.")


@pytest.mark.parametrize(("lang", "said"), [("en", "calls of tools: 2, reasoning: 1."), ("zh", "工具调用：2")])
def test_what_the_template_leaves_out_is_a_warning(lang: Lang, said: str) -> None:
    parts = {"tool_calls_unwritten": 2, "reasoning_content_unwritten": 1}
    finding = found(replace(USUAL, unwritten=parts))["chats_unwritten"]
    assert finding.level == "warning"
    assert said in finding.what(lang)
    assert "--chat_template" in finding.fix(lang)
