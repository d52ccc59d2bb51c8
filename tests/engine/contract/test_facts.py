"""Facts survive their way from one process to the other, and none beyond its bounds arrives."""

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.contract import facts
from engine.contract.bounds import as_json, read_as
from engine.contract.facts import (
    Batch,
    DataFacts,
    FileFacts,
    ModelFacts,
    PairFacts,
    PieceFacts,
    Positions,
    RowFacts,
    Sizes,
    SomeRows,
    SpecialTokens,
    StepFacts,
    TokenizerFacts,
)
from engine.contract.messages import Message
from tests.sft_tui.some_facts import file_facts

ERROR = Message("rows_none", {"path": "a.parquet"})
TOKENIZER = TokenizerFacts(100, pad=0, eos=1, named={"0": "<pad>"}, differs=ERROR)
STEPS = StepFacts(9, 1, 3, 90, 80, (Batch(2, 3, 4),), (Batch(2, 2, 3),), Batch(8, 9, 9))
PAIR = PairFacts(PieceFacts("你好", 3, 3, 0, (4, 5, 1), ("你", "好", "</s>")), PieceFacts(None, 0, 0, 0))
ROW = RowFacts(3, TOKENIZER, "pairs", (PAIR,))
EVERY = [
    DataFacts(),
    DataFacts(TOKENIZER, file_facts(), FileFacts(3, {"prompt_null": 1}, 2), SomeRows(1, 0), STEPS),
    DataFacts(ERROR, ERROR, ERROR),
    ModelFacts(
        "a/bart",
        "bart",
        40,
        Sizes(900, 100, 1800),
        4000,
        Sizes(3, 2, 1),
        SpecialTokens(None, (1, "[2]"), -3, ("pad",)),
        Positions(512),
        "module.",
        "sha256",
    ),
    ROW,
]


def sent(what: Any) -> Any:
    return json.loads(json.dumps(as_json(what)))


@pytest.mark.parametrize("known", EVERY, ids=lambda known: type(known).__name__)
def test_facts_arrive_as_they_were_sent(known: Any) -> None:
    arrived = read_as(type(known), sent(known))
    assert as_json(arrived) == as_json(known)


def test_a_long_row_arrives_up_to_what_is_shown() -> None:
    many = facts.MOST_SHOWN
    prompt = PieceFacts("x" * many, many, many, 0, (7,) * many, ("x",) * many)
    row = replace(ROW, tokenizer=TokenizerFacts(100), pairs=(replace(PAIR, prompt=prompt),))
    assert read_as(RowFacts, as_json(row)) == row
    with pytest.raises(ValueError, match="too long"):
        read_as(RowFacts, as_json(replace(row, pairs=(replace(PAIR, response=PieceFacts("x" * (many + 1), 1, 1, 0)),))))


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {"parameters": 10**30}},
        {"per_row": {"trained": -1}},
        {"rows": -1},
        {"verified": "md5"},
        {"special": {"eos": [[1]]}},
        {"special": {"pad": 2**70}},
        {"positions": {"label": 0.5}},
        {"family": "x" * 300},
        {"settings": {"d_model": 2**70}},
    ],
    ids=str,
)
def test_facts_on_a_model_beyond_their_bounds_do_not_arrive(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(ModelFacts, {**sent(EVERY[3]), **change})


def test_only_a_new_model_grows_with_its_tokenizer() -> None:
    new = ModelFacts("new", "t5", 0, Sizes(900, 100, 50), 0, Sizes(16, 0, 4))
    assert new.for_tokens(10) == replace(new, rows=10, sizes=Sizes(1060, 100, 90))
    assert replace(new, rows=40).for_tokens(10) == replace(new, rows=40)


def test_a_message_takes_the_place_of_facts_and_only_there() -> None:
    whole = sent(DataFacts(train_file=file_facts()))
    assert read_as(DataFacts, {**whole, "tokenizer": sent(ERROR)}).known_tokenizer is None
    with pytest.raises(TypeError):
        read_as(DataFacts, {**whole, "overlap": sent(ERROR), "steps": sent(ERROR)})
