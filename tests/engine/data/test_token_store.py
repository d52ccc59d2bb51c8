"""Stores: made once, verified, rebuilt if damaged, read cut at the limit."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.contract.messages import InputError
from engine.data import store_files
from engine.data.token_store import open_store
from tests.engine.data.conftest import LONGEST, REPLIES, TEXTS, contents, directly, quiet

EOS = 1


def test_lengths_are_those_of_the_rows(write: Any, store_of: Any) -> None:
    store = store_of(write(prompt=TEXTS, response=REPLIES))
    for part, texts in (("prompt", TEXTS), ("label", REPLIES)):
        lengths = [len(text) + 1 for text in texts]  # one token for each character, and the end
        assert getattr(store.lengths(range(4)), part).tolist() == lengths
        assert getattr(store.lengths([3, 0]), part).tolist() == [lengths[3], lengths[0]]


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


def was_built(store_of: Any, *arguments: Any, **named: Any) -> bool:
    """Whether opening a store meant tokenizing again."""
    reported: list[int] = []
    store_of(*arguments, progress=lambda done, _total: reported.append(done), **named)
    return bool(reported)


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
EMPTY_OF_PAIRS = [(name, how) for name in ("spans", "answers") for how in ("a bit", "cut in half", "empty")]


@pytest.mark.parametrize(("name", "damage"), [case for case in DAMAGED if case not in EMPTY_OF_PAIRS])
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
    "answers": lambda path: path.write_bytes(np.array([1, 3], np.int64).tobytes()),
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
    path = next(path for path in files_of(tmp_path / "store") if path.name == "ends")
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
    whole, short = store_of(source, LONGEST), store_of(source, 3)
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


def test_a_refused_file_leaves_other_stores_alone(write: Any, store_of: Any, tmp_path: Path) -> None:
    store_of(write(prompt=TEXTS, response=REPLIES))
    before = sorted((tmp_path / "store").rglob("*"))
    with pytest.raises(InputError):
        store_of(write(name="empty", prompt=[""], response=[""]))
    assert sorted((tmp_path / "store").rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused(write: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError) as refused:
        open_store(write(prompt=TEXTS, response=REPLIES), tokenizer, LONGEST, Path("/dev/null/store"), quiet)
    assert refused.value.message.code == "folder_unwritable"
    assert refused.value.message.args["setting"] == "token_store"


def test_tables_of_all_rows_are_memory_mapped(write: Any, store_of: Any) -> None:
    store = store_of(write(prompt=TEXTS, response=REPLIES))
    assert isinstance(store.rows, np.memmap)
    assert isinstance(store.hashes, np.memmap)
