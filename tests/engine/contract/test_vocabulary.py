"""Whether a model and a tokenizer belong together."""

import dataclasses
from typing import Any

import pytest

from engine.contract.facts import SpecialTokens, TokenizerFacts
from engine.contract.vocabulary import faults

NEEDED = ("decoder_start", "pad", "eos")
GOOD = SpecialTokens(pad=0, eos=(1,), decoder_start=0, needed=NEEDED)


def tokenizer(tokens: int = 100, eos: int = 1) -> TokenizerFacts:
    known = {field.name for field in dataclasses.fields(TokenizerFacts)}
    values: dict[str, Any] = {"tokens": tokens, "eos": eos}
    assert values.keys() <= known
    return TokenizerFacts(**values)


@pytest.mark.parametrize(
    ("rows", "special", "facts", "codes"),
    [
        (100, GOOD, tokenizer(), []),
        (0, None, tokenizer(), []),
        (99, GOOD, tokenizer(), ["vocabulary_mismatch"]),
        (100, GOOD, tokenizer(eos=2), ["special_token_mismatch"]),
        (100, SpecialTokens(0, (2, 1), 0, NEEDED), tokenizer(), []),
        (100, SpecialTokens(0, (1,), None, NEEDED), tokenizer(), ["decoder_start_missing"]),
        (100, SpecialTokens(None, (1,), None), tokenizer(), []),
        (100, SpecialTokens(None, (1,), 0, NEEDED), tokenizer(), ["special_token_bad"]),
        (100, SpecialTokens(0, (1,), 100, NEEDED), tokenizer(), ["special_token_bad"]),
        (100, SpecialTokens("zero", (1,), -1, NEEDED), tokenizer(), ["special_token_bad", "special_token_bad"]),
    ],
)
def test_faults_of_a_model_and_a_tokenizer(
    rows: int, special: SpecialTokens | None, facts: TokenizerFacts, codes: list[str]
) -> None:
    assert [message.code for message in faults("model", rows, special, "tokenizer", facts)] == codes
