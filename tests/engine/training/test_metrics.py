"""The scores of replies, against the definitions and against sacrebleu."""

import math
import random
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF

from engine.training.metrics import (
    MOST_TOKENS,
    common_length,
    corpus_bleu,
    corpus_chrf,
    exact_match,
    f1_of,
    perplexity,
    reply_scores,
    rouge_l,
    script_tokenizer,
)

TOKENS = st.lists(st.sampled_from("abcd"), max_size=40)


def by_table(one: list[str], other: list[str]) -> int:
    """The longest common subsequence by its definition."""

    @cache
    def longest(i: int, j: int) -> int:
        if i == len(one) or j == len(other):
            return 0
        if one[i] == other[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    return longest(0, 0)


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_the_common_length_is_that_of_the_usual_table(one: list[str], other: list[str]) -> None:
    assert common_length(one, other) == by_table(one, other)


@pytest.mark.parametrize(
    ("reply", "reference", "expected"),
    [
        # Lin, 2004: "police killed the gunman" against two sentences with the same words.
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("a b", "a b c d", 2 / 3),
        ("", "a", 0.0),
        ("x", "y", 0.0),
        ("", "", 1.0),
    ],
)
def test_rouge_l_is_the_f1_of_the_common_subsequence(reply: str, reference: str, expected: float) -> None:
    assert f1_of(reply.split(), reference.split()) == pytest.approx(expected)


def test_rouge_l_is_the_mean_of_the_rows_whatever_their_case() -> None:
    found = rouge_l(["Police kill the gunman", "THE END"], ["police killed the gunman", "the end"])
    assert found.value == pytest.approx(100 * (0.75 + 1) / 2)


def test_rouge_l_counts_the_characters_of_chinese() -> None:
    assert rouge_l(["今天下雨"], ["今天天气很好"]).value == pytest.approx(100 * 2 * 2 / (4 + 6))


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [(["今天天气很好"], "zh"), (["good morning"], "13a"), (["東京は日本の首都です。"], "char")],
)
def test_a_signature_names_tokenizer_and_version(texts: list[str], tokenizer: str) -> None:
    signature = rouge_l(texts, texts).signature
    assert f"tok:{tokenizer}|" in signature
    assert "sacrebleu:" in signature
    assert signature.endswith("version:1")
    assert f"tok:{tokenizer}|" in corpus_bleu(texts, texts).signature


def test_long_texts_are_counted_up_to_a_limit_that_the_signature_names() -> None:
    random.seed(0)
    words = [str(number) for number in range(50)]
    long, other = (" ".join(random.choices(words, k=10 * MOST_TOKENS)) for _ in range(2))
    cut = " ".join(long.split()[:MOST_TOKENS])
    began = time.process_time()
    found = rouge_l([long], [other])
    assert time.process_time() - began < 20
    assert f"max:{MOST_TOKENS}|" in found.signature
    assert rouge_l([cut], [other]).value == found.value


def test_chrf_is_sacrebleus() -> None:
    replies, references = ["the cat sat"], ["the cat sits on a mat"]
    metric = CHRF()
    assert corpus_chrf(replies, references).value == metric.corpus_score(replies, [references]).score
    assert corpus_chrf(replies, references).signature == str(metric.get_signature())


@pytest.mark.parametrize(
    ("replies", "references", "expected"),
    [
        (["yes", "no"], ["yes", "maybe"], 50.0),
        ([" yes\n", "No"], ["yes", "no"], 50.0),  # white space at the ends does not count, case does
        (["a  b"], ["a b"], 0.0),
        (["　你好 "], ["你好"], 100.0),
        ([""], [" "], 100.0),
    ],
)
def test_exact_match_is_the_share_of_equal_replies(replies: list[str], references: list[str], expected: float) -> None:
    found = exact_match(replies, references)
    assert found.value == expected
    assert "norm:strip" in found.signature


@pytest.mark.parametrize(("loss", "expected"), [(0.0, 1.0), (math.log(15.3), 15.3), (1e50, math.inf)])
def test_perplexity_is_the_exponential_of_the_loss(loss: float, expected: float) -> None:
    assert perplexity(loss).value == pytest.approx(expected)
    assert "per:learned-token" in perplexity(loss).signature


def test_the_perplexity_of_no_number_is_none() -> None:
    assert math.isnan(perplexity(math.nan).value)


@pytest.mark.parametrize("text", ["今天天气很好，我们去公园散步吧。", "The cat sat on the mat today."])
def test_a_perfect_reply_scores_100_by_every_measure(text: str) -> None:
    perfect = reply_scores([text], [text])
    assert list(perfect) == ["bleu", "chrf", "rouge-l", "exact-match"]
    assert [one.value for one in perfect.values()] == pytest.approx([100] * 4)
    assert all(one.value < 95 for one in reply_scores([text[:-4]], [text]).values())


def test_no_replies_have_no_scores() -> None:
    assert reply_scores([], []) == {}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["北京是中国的首都。"], "zh"),
        (["我用 Python 写代码，PyTorch 训练模型。"], "zh"),
        (["Paris is the capital of France."], "13a"),
        (["The character 中 means middle; all other words here are English."], "13a"),
        (["東京は日本の首都です。"], "char"),
        (["กรุงเทพเป็นเมืองหลวง"], "char"),
        (["12345 !?"], "13a"),
        ([""], "13a"),
    ],
)
def test_the_script_chooses_the_tokenizer(texts: list[str], expected: str) -> None:
    assert script_tokenizer(texts) == expected
