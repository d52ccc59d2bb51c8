import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data import demo_corpus
from engine.data.importing.convert import import_pairs
from engine.data.tokenizer import load_tokenizer, train_tokenizer

TEXTS = [
    "你好，有什么可以帮你？",
    "今天天气怎么样？",
    "How are you today?",
    "I am fine, thank you.",
    "北京是中国的首都。",
]


def test_no_demo_prompt_is_in_both_files(tmp_path: Path) -> None:
    rows = [(f"prompt {number % 30}", f"response {number}") for number in range(100)]
    paths = [str(tmp_path / "demo" / f"{name}.parquet") for name in ("train", "valid")]
    import_pairs(ImportRequest((), train=paths[0], valid=paths[1]), rows)
    train, valid = (pq.read_table(path).to_pylist() for path in paths)
    assert sorted((row["prompt"], row["response"]) for row in [*train, *valid]) == sorted(rows)
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in valid}
    assert 0 < len(valid) < len(train) / 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("new") / "tokenizer"
    assert train_tokenizer(folder, TEXTS * 20, 4000) == len(load_tokenizer(str(folder)).get_vocab())
    return load_tokenizer(str(folder))


def test_an_existing_tokenizer_is_not_overwritten(trained: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError) as refused:
        train_tokenizer(Path(trained.name_or_path), TEXTS, 4000)
    assert refused.value.message.code == "tokenizer_exists"


def test_the_same_texts_make_the_same_tokenizer(tmp_path: Path, corpus: list[tuple[str, str]]) -> None:
    texts = [text for pair in corpus for text in pair]
    for name in ("one", "other"):
        train_tokenizer(tmp_path / name, texts, 2000)
    one, other = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_vocabulary_smaller_than_the_alphabet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        train_tokenizer(tmp_path / "small", TEXTS, 20)
    assert refused.value.message.code == "vocabulary_small"
    assert not (tmp_path / "small").exists()


def test_the_tokenizer_ends_every_text(trained: PreTrainedTokenizerBase) -> None:
    assert (trained.pad_token_id, trained.eos_token_id) == (0, 1)
    assert [ids[-1] for ids in trained(TEXTS)["input_ids"]] == [1] * len(TEXTS)


@pytest.mark.parametrize("text", ["今天天气怎么样?", "How are you today?", "I am fine, thank you."])
def test_tokens_decode_to_their_texts(trained: PreTrainedTokenizerBase, text: str) -> None:
    assert trained.decode(trained(text)["input_ids"], skip_special_tokens=True) == text


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, str]]:
    pytest.importorskip("chatterbot_corpus", reason="NOT TESTED: chatterbot-corpus is not installed")
    return demo_corpus.pairs()


def test_the_corpus_has_a_fixed_order(corpus: list[tuple[str, str]]) -> None:
    assert corpus == demo_corpus.pairs()


def test_the_corpus_is_chinese_and_english(corpus: list[tuple[str, str]]) -> None:
    assert len(corpus) > 1500  # of about 2,900, without repetitions and long listings
    assert len(set(corpus)) == len(corpus)
    chinese = [row for row in corpus if any("\u4e00" <= character <= "\u9fff" for character in row[0])]
    assert 200 < len(chinese) < len(corpus) - 200


def test_the_corpus_is_made_of_whole_turns(corpus: list[tuple[str, str]]) -> None:
    assert [row for row in corpus if not all(row)] == []
    assert [row for row in corpus if len(row[0]) == len(row[1]) == 1] == []


def test_pretraining_sees_every_text_in_two_parts_and_no_reply() -> None:
    pairs = [("how are you", "fine"), ("今天好", "how are you"), ("I", "今天好吗")]
    rows = demo_corpus.continuations(pairs)
    assert rows == demo_corpus.continuations(pairs)
    assert all(begun and then for begun, then in rows)
    whole = ["how are you", "fine", "今天好", "今天好吗"]
    assert {begun + joint + then for begun, then in rows for joint in ("", " ")} >= set(whole)
    assert all(begun + then in whole or f"{begun} {then}" in whole for begun, then in rows)
    assert not set(rows) & set(pairs)


def test_a_missing_corpus_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chatterbot_corpus", None)
    with pytest.raises(InputError) as refused:
        demo_corpus.pairs()
    assert (refused.value.message.code, refused.value.message.args["package"]) == (
        "demo_missing",
        "chatterbot_corpus",
    )


def test_no_prompt_that_is_shown_before_and_after_is_learned() -> None:
    learned, held_out = demo_corpus.chat_pairs()
    prompts = [prompt for prompt, _ in held_out]
    assert tuple(prompts[: len(demo_corpus.SHOWN)]) == demo_corpus.SHOWN
    assert len(set(prompts)) == demo_corpus.HELD_OUT
    assert not {prompt.lower() for prompt, _ in learned} & {prompt.lower() for prompt in prompts}
    assert {response for _, response in learned} >= {response for _, response in demo_corpus.PERSONA}
    assert (learned, held_out) == demo_corpus.chat_pairs()
