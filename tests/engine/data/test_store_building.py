"""Rows of a data file as they are tokenized: which are left out, and what the store then holds."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.messages import InputError
from engine.contract.reasons import counted
from engine.data import bounded, encoding, parquet
from engine.data.parquet_rows import RowSource
from engine.data.token_store import open_store
from tests.engine.data.conftest import LONGEST, REPLIES, TEXTS, bad_file, contents, directly, quiet

EOS = 1


def test_the_store_holds_what_the_tokenizer_gives(
    write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    store = store_of(write(prompt=TEXTS, response=REPLIES))
    assert contents(store) == directly(tokenizer, TEXTS, REPLIES)
    assert all(ids[-1] == EOS for pair in contents(store) for ids in pair)
    assert store.rows.tolist() == [0, 1, 2, 3]
    assert store.notices(Path("x")) == []


def test_rows_in_many_batches_stay_in_order(
    monkeypatch: pytest.MonkeyPatch, write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    """With a row to drop and a row to cut in each batch, so that neither count starts over."""
    monkeypatch.setattr(parquet, "BATCH_ROWS", 4)
    prompts, responses = [*TEXTS, ""] * 4, [*REPLIES, "x"] * 4
    reported: list[tuple[int, int]] = []
    store = store_of(write(prompt=prompts, response=responses), 9, progress=lambda *what: reported.append(what))
    expected = [
        tuple(ids if len(ids) <= 9 else [*ids[:8], EOS] for ids in pair)
        for pair in directly(tokenizer, TEXTS * 4, REPLIES * 4)
    ]
    assert contents(store) == expected
    assert store.rows.tolist() == [row for row in range(20) if row % 5 != 4]
    assert reported == [(done, 20) for done in range(4, 21, 4)]
    dropped, truncated = store.notices(Path("x"))
    assert (dropped.args["dropped"], dropped.args["first"], dropped.args["rows"]) == (4, 4, 20)
    assert (truncated.args["cut_rows"], truncated.args["rows"]) == (8, 20)


def test_real_rows_come_through_unchanged(real_rows: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    store = open_store(RowSource(real_rows, "train_file", "prompt", "response"), tokenizer, LONGEST, tmp_path, quiet)
    table = pq.read_table(real_rows)
    prompts, responses = ([text or "" for text in table[name].to_pylist()] for name in ("prompt", "response"))
    kept = [row for row in range(len(prompts)) if prompts[row].strip() and responses[row].strip()]
    assert store.rows.tolist() == kept
    assert contents(store) == directly(tokenizer, [prompts[row] for row in kept], [responses[row] for row in kept])


def not_utf8(values: list[bytes | None]) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


FAULTS = [
    ([None], "prompt_null"),
    ([""], "prompt_empty"),
    ([" \t\n"], "prompt_empty"),
    (["\u3000\u3000"], "prompt_empty"),
    (not_utf8([b"\xff\xfe"]), "prompt_not_utf8"),
    (not_utf8([b"\xed\xa0\x80"]), "prompt_not_utf8"),  # half of a surrogate pair
]


@pytest.mark.parametrize(("value", "reason"), FAULTS)
@pytest.mark.parametrize("column", ["prompt", "response"])
def test_a_row_without_text_is_left_out_with_its_reason(
    write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase, column: str, value: Any, reason: str
) -> None:
    good = pa.array(["你好", "谢谢"])
    faulty = pa.concat_arrays([good[:1], pa.array(value, pa.string()), good[1:]])
    fine = pa.array(["早", "x", "再见"])
    store = store_of(write(**{column: faulty, "response" if column == "prompt" else "prompt": fine}))
    expected = directly(tokenizer, ["你好", "谢谢"], ["早", "再见"])
    assert contents(store) == [pair if column == "prompt" else pair[::-1] for pair in expected]
    assert store.rows.tolist() == [0, 2]
    (notice,) = store.notices(Path("data/x.parquet"))
    assert notice.code == "rows_dropped"
    reported = {"path": "data/x.parquet", "rows": 3, "dropped": 1, "first": 1}
    assert notice.args == {**reported, "reasons": counted({reason.replace("prompt", column): 1})}


def test_each_reason_is_counted(write: Any, store_of: Any) -> None:
    store = store_of(
        write(
            prompt=not_utf8([None, b"", b"hello", b"hello", b"\xff", b" ", b"hello"]),
            response=pa.array(["x", "x", "", "x", "x", "x", None]),
        )
    )
    (notice,) = store.notices(Path("x"))
    assert notice.args["dropped"] == 6
    assert (
        "(prompt is empty: 2, prompt is not UTF-8: 1, prompt is null: 1, response is empty: 1, response is null: 1)"
    ) in notice.what()
    assert store.rows.tolist() == [3]


def test_an_end_token_is_added_if_the_tokenizer_adds_none(write: Any, store_of: Any) -> None:
    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[EOS]": 1, "好": 2, "你": 3}, unk_token="[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]")
    assert contents(store_of(write(prompt=["你好"], response=["好"]), tokenizer=bare)) == [([3, 2, 1], [2, 1])]


@pytest.mark.parametrize("words", [200, 70_000])
def test_token_ids_are_kept_whole_whatever_the_vocabulary(write: Any, store_of: Any, words: int) -> None:
    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[EOS]": 1, **{f"w{i}": i for i in range(2, words)}}, "[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    large = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]")
    store = store_of(write(prompt=[f"w{words - 1} w2"], response=["w3"]), tokenizer=large)
    assert contents(store) == [([words - 1, 2, 1], [3, 1])]


def test_token_ids_beyond_the_vocabulary_size_are_kept_whole(write: Any, store_of: Any) -> None:
    """A vocabulary may have gaps: few tokens, and a high id among them."""
    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[EOS]": 1, "w": 70_000}, unk_token="[PAD]"))
    sparse = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]")
    assert contents(store_of(write(prompt=["w"], response=["w"]), tokenizer=sparse)) == [([70_000, 1], [70_000, 1])]


KINDS = [
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_text_is_read_from_every_text_column_type(
    write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase, kind: pa.DataType
) -> None:
    texts = ["你好", None, "谢谢", "你好"]
    store = store_of(write(prompt=pa.array(texts).cast(kind), response=pa.array(texts)))
    kept = ["你好", "谢谢", "你好"]
    assert contents(store) == directly(tokenizer, kept, kept)
    assert store.notices(Path("x"))[0].what().count("(prompt is null: 1)") == 1


@pytest.mark.parametrize("kind", KINDS[:-1], ids=str)  # the last kind pyarrow itself does not read then
def test_invalid_utf8_is_left_out_of_every_column_type(write: Any, store_of: Any, kind: pa.DataType) -> None:
    if pa.types.is_dictionary(kind):
        values = not_utf8([b"hello", b"\xff"])
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], kind.index_type), values)
    else:
        raw = pa.large_binary() if kind == pa.large_string() else pa.binary_view()
        column = pa.array([b"hello", b"\xff", None], raw).view(kind)
    store = store_of(write(prompt=column, response=["x", "y", "z"]))
    assert store.rows.tolist() == [0]
    assert store.notices(Path("x"))[0].what().count("(prompt is not UTF-8: 1, prompt is null: 1)") == 1


def test_columns_may_have_other_names(write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    source = write(columns=("问", "a.b"), **{"问": TEXTS, "prompt": ["x"] * 4, "a.b": REPLIES})
    assert contents(store_of(source)) == directly(tokenizer, TEXTS, REPLIES)


def test_a_file_damaged_in_the_middle_is_refused(tmp_path: Path, store_of: Any) -> None:
    path = tmp_path / "rows.parquet"
    bad_file(path, "flipped_bit")
    source = RowSource(path, "train_file", "prompt", "response")
    source.open().close()  # nothing is wrong with its outline
    with pytest.raises(InputError) as refused:
        store_of(source)
    assert refused.value.message.code == "parquet_bad"
    assert str(path) in refused.value.message.text()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("texts", [[], ["", "  "], [None, ""]])
def test_a_file_without_a_usable_row_is_refused(
    write: Any, store_of: Any, tmp_path: Path, texts: list[str | None]
) -> None:
    column = pa.array(texts, pa.string())
    with pytest.raises(InputError) as refused:
        store_of(write(prompt=column, response=column))
    assert refused.value.message.code == "rows_all_empty"
    assert refused.value.message.args["dropped"] == len(texts)
    assert not (tmp_path / "store").exists()


def test_a_tokenizer_that_never_ends_is_refused(
    write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stuck, waits = threading.Event(), list[tuple[int, int]]()
    monkeypatch.setattr(bounded, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(encoding, "encodings", lambda _texts, _tokenizer: stuck.wait())
    with pytest.raises(InputError) as refused:
        store_of(write(prompt=["你好"], response=["再见"]), progress=lambda done, total: waits.append((done, total)))
    stuck.set()
    assert refused.value.message.code == "tokenizer_bad"
    assert refused.value.message.args["path"] == str(tokenizer.name_or_path)
    assert waits == [(0, 1)] * bounded.POLLS
    assert not (tmp_path / "store").exists()
