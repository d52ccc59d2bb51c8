"""How much text a normalizer makes of one character follows from its rules, for any character."""

from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Regex, normalizers

from engine.data.growth import EXPANSION_LIMIT, longest_expansion
from engine.data.spiece import read_spiece

X = normalizers.Replace("x", "y" * 60)
MASSES = {
    "a rare character": [normalizers.Replace("龘", "x" * 10**6)],
    "a rare character, by a pattern": [normalizers.Replace(Regex(r"\p{Runic}"), "x" * 2000)],
    "rules that feed each other": [normalizers.Replace("龘", "x" * 60), X, normalizers.Replace("y", "z")],
    "fed through another case": [normalizers.Replace("龘", "X" * 60), normalizers.Lowercase(), X],
    "a prefix": [normalizers.Prepend("x" * 30), normalizers.Sequence([normalizers.NFKC(), X])],
}
TAME = {
    "ALBERT's": [
        normalizers.Replace("``", '"'),
        normalizers.NFKD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
    ],
    "many that do not meet": [normalizers.Replace(letter, "[" + letter.upper() * 60 + "]") for letter in "abcdef"],
    "a space's": [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")],
}


@pytest.mark.parametrize("rules", MASSES.values(), ids=MASSES)
def test_growth_is_found_for_any_character(rules: list[Any]) -> None:
    assert longest_expansion(normalizers.Sequence(rules)) > EXPANSION_LIMIT


@pytest.mark.parametrize("rules", TAME.values(), ids=TAME)
def test_published_tokenizers_are_not_suspected(rules: list[Any]) -> None:
    assert longest_expansion(normalizers.Sequence(rules)) < 100


def test_a_tokenizer_without_rules_does_not_grow_text() -> None:
    assert longest_expansion(None) == 1


def test_the_longest_entry_of_a_sentencepiece_table_is_found(tmp_path: Path) -> None:
    rules = tmp_path / "rules.tsv"
    rules.write_text("9F98\t" + " ".join(["78"] * 60) + "\n")  # 龘 becomes 60 x
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["你好 world"] * 20), model_prefix=str(tmp_path / "pieces"), vocab_size=20,
        hard_vocab_limit=False, normalization_rule_tsv=str(rules), add_dummy_prefix=False, minloglevel=2,
    )  # fmt: skip
    tokenizer, _ = read_spiece(tmp_path / "pieces.model")
    assert longest_expansion(normalizers.Sequence([tokenizer.normalizer, normalizers.Replace("q", "zz")])) == 60
    assert longest_expansion(normalizers.Sequence([tokenizer.normalizer, X])) > EXPANSION_LIMIT
