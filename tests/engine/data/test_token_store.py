import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.messages import InputError
from engine.contract.reasons import counted
from engine.data import bounded, encoding, parquet, store_files
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store

LONG = 1000  # longer than any row here
EOS = 1
TEXTS = ["你好", "今天天气怎么样？", "hello", "谢谢"]
REPLIES = ["你好，有什么可以帮你？", "是", "a small model.", "不客气。"]


def quiet(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., RowSource]:
    """Writes columns to a Parquet file: `write(prompt=[...], response=[...])`."""

    def make(*, name: str = "rows", columns: tuple[str, str] = ("prompt", "response"), **table: Any) -> RowSource:
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(table), path)
        return RowSource(path, "train_file", *columns)

    return make


@pytest.fixture
def store_of(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Callable[..., TokenStore]:
    """Opens the store of a source."""

    def make(source: RowSource, max_len: int = LONG, tokenizer: Any = tokenizer, progress: Any = quiet) -> TokenStore:
        return open_store(source, tokenizer, max_len, tmp_path / "store", progress)

    return make


def contents(store: TokenStore) -> list[tuple[list[int], list[int]]]:
    return [(store.prompt(index).tolist(), store.label(index).tolist()) for index in range(len(store))]


def directly(tokenizer: Any, prompts: list[str], responses: list[str]) -> list[tuple[list[int], list[int]]]:
    """Each text by itself, in plain Python."""
    pairs = zip(prompts, responses, strict=True)
    return [(tokenizer(prompt)["input_ids"], tokenizer(response)["input_ids"]) for prompt, response in pairs]


def test_the_store_holds_what_the_tokenizer_gives(
    write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    store = store_of(write(prompt=TEXTS, response=REPLIES))
    assert contents(store) == directly(tokenizer, TEXTS, REPLIES)
    assert all(ids[-1] == EOS for pair in contents(store) for ids in pair)
    assert store.rows.tolist() == [0, 1, 2, 3]
    assert store.notices(Path("x")) == []


def test_lengths_are_those_of_the_rows(write: Any, store_of: Any) -> None:
    store = store_of(write(prompt=TEXTS, response=REPLIES))
    for part, texts in (("prompt", TEXTS), ("label", REPLIES)):
        lengths = [len(text) + 1 for text in texts]  # one token for each character, and the end
        assert getattr(store.lengths(range(4)), part).tolist() == lengths
        assert getattr(store.lengths([3, 0]), part).tolist() == [lengths[3], lengths[0]]


def test_rows_in_many_batches_stay_in_order(
    monkeypatch: pytest.MonkeyPatch, write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    """With a row to drop and a row to cut in each batch, so that neither count starts over."""
    monkeypatch.setattr(parquet, "BATCH_ROWS", 4)
    prompts, responses = [*TEXTS, ""] * 4, [*REPLIES, "x"] * 4
    told: list[tuple[int, int]] = []
    store = store_of(write(prompt=prompts, response=responses), 9, progress=lambda *what: told.append(what))
    expected = [
        tuple(ids if len(ids) <= 9 else [*ids[:8], EOS] for ids in pair)
        for pair in directly(tokenizer, TEXTS * 4, REPLIES * 4)
    ]
    assert contents(store) == expected
    assert store.rows.tolist() == [row for row in range(20) if row % 5 != 4]
    assert told == [(done, 20) for done in range(4, 21, 4)]
    dropped, truncated = store.notices(Path("x"))
    assert (dropped.args["dropped"], dropped.args["first"], dropped.args["rows"]) == (4, 4, 20)
    assert (truncated.args["cut_rows"], truncated.args["rows"]) == (8, 20)


def test_real_rows_come_through_unchanged(real_rows: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    store = open_store(RowSource(real_rows, "train_file", "prompt", "response"), tokenizer, LONG, tmp_path, quiet)
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
    told = {"path": "data/x.parquet", "rows": 3, "dropped": 1, "first": 1}
    assert notice.args == {**told, "reasons": counted({reason.replace("prompt", column): 1})}


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


def test_long_rows_are_cut_and_keep_their_end_token(
    write: Any, store_of: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts, responses = ["你好", "今天天气怎么样？", "今天天气怎么样？"], ["是", "是", "a small model."]
    store = store_of(write(prompt=prompts, response=responses), 5)
    whole = directly(tokenizer, prompts, responses)
    assert contents(store) == [tuple([*ids[:-1][:4], EOS] for ids in pair) for pair in whole]
    (notice,) = store.notices(Path("x"))
    total = sum(len(ids) for pair in whole for ids in pair)
    cut = (9 - 5) + (9 - 5) + (15 - 5)
    assert notice.code == "rows_truncated"
    assert notice.args == {"path": "x", "rows": 3, "cut_rows": 2, "cut_tokens": cut, "tokens": total, "limit": 5}


def test_a_row_of_exactly_the_limit_is_not_cut(write: Any, store_of: Any) -> None:
    store = store_of(write(prompt=["你好"], response=["谢谢"]), 3)
    assert store.notices(Path("x")) == []
    assert store.lengths([0]).label.tolist() == [3]


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


def was_built(store_of: Any, *arguments: Any, **named: Any) -> bool:
    """Whether opening a store meant tokenizing anew."""
    told: list[int] = []
    store_of(*arguments, progress=lambda done, _total: told.append(done), **named)
    return bool(told)


def test_a_store_is_made_once(write: Any, store_of: Any) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    assert was_built(store_of, source)
    assert not was_built(store_of, source)


def files_of(store: Path) -> list[Path]:
    """The files of the one store in a folder."""
    (folder,) = store.iterdir()
    return sorted(folder.iterdir())


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 2
    path.write_bytes(content)


def replace_by_a_pipe(path: Path) -> None:
    """Puts a pipe that nobody writes to in the place of a file."""
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": flip,
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(8)),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
    "a pipe": replace_by_a_pipe,
}


DAMAGED = [(name, how) for name in (*store_files.NAMES, store_files.META) for how in DAMAGE]
SPANS_OF_PAIRS = [("spans", "a bit"), ("spans", "cut in half"), ("spans", "empty")]  # pairs have none


@pytest.mark.parametrize(("name", "damage"), [case for case in DAMAGED if case not in SPANS_OF_PAIRS])
def test_a_damaged_store_is_rebuilt_and_reported(
    write: Any, store_of: Any, tmp_path: Path, name: str, damage: str
) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    whole = contents(store_of(source))
    DAMAGE[damage](next(path for path in files_of(tmp_path / "store") if path.name == name))
    store = store_of(source)
    assert (contents(store), store.rows.tolist()) == (whole, [0, 1, 2, 3])
    (notice,) = store.notices(source.path)
    assert notice.code == "token_store_again"
    assert str(notice.args["path"]).endswith(name)
    assert store_of(source).notices(source.path) == []


FORGED: dict[str, Callable[[Path], object]] = {
    "ids": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),  # the highest id that there is
    "ends": lambda path: path.write_bytes(np.frombuffer(path.read_bytes(), np.int64)[::-1].tobytes()),
    "spans": lambda path: path.write_bytes(np.array([1, 3], np.int64).tobytes()),
    "rows": lambda path: os.truncate(path, 8),
    "hashes": lambda path: os.truncate(path, 8),
}


@pytest.mark.parametrize("name", FORGED)
def test_an_unusable_store_is_rebuilt_though_its_hashes_match(
    write: Any, store_of: Any, tmp_path: Path, name: str
) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    whole = contents(store_of(source))
    path = next(path for path in files_of(tmp_path / "store") if path.name == name)
    FORGED[name](path)
    meta = json.loads((path.parent / store_files.META).read_text())
    meta["files"][name] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    del meta["own_sha256"]
    own = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (path.parent / store_files.META).write_text(json.dumps({**meta, "own_sha256": own}))
    store = store_of(source)
    assert contents(store) == whole
    assert store.damage is not None


@pytest.mark.parametrize("meta", ["{}", "[]", "", '{"dtype": "O"}', "9" * 5000])
def test_a_store_with_an_empty_description_is_rebuilt(write: Any, store_of: Any, tmp_path: Path, meta: str) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    whole = contents(store_of(source))
    next(path for path in files_of(tmp_path / "store") if path.name == store_files.META).write_text(meta)
    assert contents(store_of(source)) == whole


def test_a_damaged_store_that_cannot_be_removed_is_named(write: Any, store_of: Any, tmp_path: Path) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    store_of(source)
    path = files_of(tmp_path / "store")[0]
    (path.parent / "thesis.txt").write_text("mine")
    flip(path)
    with pytest.raises(InputError) as refused:
        store_of(source)
    assert refused.value.message.code == "token_store_bad"
    assert str(path) in refused.value.message.what()
    assert (path.parent / "thesis.txt").read_text() == "mine"


def test_touching_the_data_file_changes_nothing(write: Any, store_of: Any) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    store_of(source)
    os.utime(source.path, (1, 1))
    assert not was_built(store_of, source)


def test_other_rows_make_another_store(write: Any, store_of: Any) -> None:
    store_of(write(prompt=TEXTS, response=REPLIES))
    changed = write(prompt=TEXTS[::-1], response=REPLIES)
    assert was_built(store_of, changed)
    assert store_of(changed).prompt(0).tolist() == store_of(write(prompt=["谢谢"], response=["x"])).prompt(0).tolist()


def test_another_length_needs_no_other_store(write: Any, store_of: Any) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    whole, short = store_of(source, LONG), store_of(source, 3)
    assert not was_built(store_of, source, 8)
    assert [len(ids) for pair in contents(short) for ids in pair] == [
        min(3, len(ids)) for pair in contents(whole) for ids in pair
    ]


def test_other_columns_make_another_store(write: Any, store_of: Any) -> None:
    store_of(write(prompt=TEXTS, response=REPLIES))
    assert was_built(store_of, write(prompt=TEXTS, response=REPLIES, columns=("response", "prompt")))


def test_another_tokenizer_makes_another_store(write: Any, store_of: Any, tiny_tokenizer: Path) -> None:
    source = write(prompt=TEXTS, response=REPLIES)
    store_of(source)
    same = AutoTokenizer.from_pretrained(tiny_tokenizer)
    assert not was_built(store_of, source, tokenizer=same)
    same.add_tokens(["你好"])
    assert was_built(store_of, source, tokenizer=same)


def test_an_incomplete_store_is_rebuilt(
    monkeypatch: pytest.MonkeyPatch, write: Any, store_of: Any, tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    source = write(prompt=TEXTS, response=REPLIES)
    monkeypatch.setattr(store_files, "write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        store_of(source)
    monkeypatch.undo()
    assert not (tmp_path / "store").exists()
    assert was_built(store_of, source)


def bad_file(path: Path, kind: str) -> None:
    """Writes a file that cannot be used at `path`."""
    table = pa.table({"prompt": ["你好"] * 2000, "response": [str(i) * 9 for i in range(2000)]})
    if kind == "not_parquet":
        path.write_text("prompt,response\n你好,你好\n")
    elif kind == "empty_file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        pq.write_table(table, path, write_page_checksum=True)
        data = bytearray(path.read_bytes())
        if kind == "truncated":
            del data[len(data) // 2 :]
        else:
            data[len(data) // 3] ^= 1
        path.write_bytes(data)


UNREADABLE = {
    "missing": "source_unreadable",
    "folder": "source_unreadable",
    "empty_file": "parquet_bad",
    "not_parquet": "not_parquet",
    "truncated": "parquet_bad",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.parquet"
    bad_file(path, kind)
    with pytest.raises(InputError) as refused:
        RowSource(path, "train_file", "prompt", "response").open()
    assert refused.value.message.code == UNREADABLE[kind]
    assert str(path) in refused.value.message.text()


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


def test_a_missing_column_is_named_with_those_that_exist(write: Any) -> None:
    source = write(question=TEXTS, response=REPLIES)
    with pytest.raises(InputError) as refused:
        source.open()
    assert refused.value.message.code == "column_missing"
    assert refused.value.message.args["columns"] == "question, response"
    assert "--prompt_column" in refused.value.message.fix()


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]], [None, None], [1.5, None]])
def test_a_column_that_is_no_text_is_refused(write: Any, values: list[Any]) -> None:
    source = write(prompt=["a", "b"], response=values)
    with pytest.raises(InputError) as refused:
        source.open()
    assert refused.value.message.code == "column_not_text"
    assert refused.value.message.args["column"] == "response"


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


def test_a_refused_file_leaves_other_stores_alone(write: Any, store_of: Any, tmp_path: Path) -> None:
    store_of(write(prompt=TEXTS, response=REPLIES))
    before = sorted((tmp_path / "store").rglob("*"))
    with pytest.raises(InputError):
        store_of(write(name="empty", prompt=[""], response=[""]))
    assert sorted((tmp_path / "store").rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused(write: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError) as refused:
        open_store(write(prompt=TEXTS, response=REPLIES), tokenizer, LONG, Path("/dev/null/store"), quiet)
    assert refused.value.message.code == "folder_unwritable"
    assert refused.value.message.args["setting"] == "token_store"


def test_tables_of_all_rows_are_memory_mapped(write: Any, store_of: Any) -> None:
    store = store_of(write(prompt=TEXTS, response=REPLIES))
    assert isinstance(store.rows, np.memmap)
    assert isinstance(store.hashes, np.memmap)


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
