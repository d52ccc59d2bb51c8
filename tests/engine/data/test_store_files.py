"""Rows with learned spans, written and read back, and damage to their files."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.durable import read_json
from engine.data.store_files import META, NAMES, DamagedError, NewRows, StoreWriter, require_sound
from engine.data.token_store import Row, TokenStore

VOCABULARY = 1000
LONG = 100  # tokens, more than any row here has
Segments = list[tuple[int, bool]]  # lengths of the parts of a row, and whether they are learned
# Two answers, an answer that is all of a row, one in its middle, nothing to learn, and a prompt with its label.
CONVERSATIONS: list[Segments] = [
    [(3, False), (2, True), (1, False), (4, True)],
    [(5, True)],
    [(2, False), (3, True), (2, False)],
    [(4, False)],
    [(3, False), (2, True)],
]


def rows_of(shapes: Sequence[Segments]) -> list[Row]:
    """Rows of these parts, with ids that count upwards over all rows."""
    rows, first = list[Row](), 0
    for shape in shapes:
        ends = np.cumsum([length for length, _ in shape])
        spans = [(int(end) - length, int(end)) for end, (length, learned) in zip(ends, shape, strict=True) if learned]
        rows.append(Row(np.arange(first, first + int(ends[-1])) % VOCABULARY, tuple(spans)))
        first += int(ends[-1])
    return rows


def packed(rows: Sequence[Row], first: int) -> NewRows:
    """What a writer is given for some rows, the first of which is number `first`."""
    ends = np.cumsum([len(row.ids) for row in rows])
    starts = ends - [len(row.ids) for row in rows]
    spans = [np.array(row.spans).reshape(-1, 2) + start for row, start in zip(rows, starts, strict=True)]
    ids = np.concatenate([row.ids for row in rows]).astype(np.uint16)
    numbers = np.arange(first, first + len(rows))
    return NewRows(ids, ends, np.concatenate(spans).astype(np.int64), numbers, numbers.astype(np.uint64) * 7)


def write(folder: Path, rows: Sequence[Row], batch: int) -> None:
    """Writes rows, `batch` of them at a time."""
    with StoreWriter(folder) as out:
        for first in range(0, len(rows), batch):
            out.append(packed(rows[first : first + batch], first))
        out.seal({"dtype": "uint16"})


@contextmanager
def stored(rows: Sequence[Row], limit: int = LONG, batch: int = 3) -> Iterator[TokenStore]:
    """A store of these rows, opened after it was verified."""
    with TemporaryDirectory() as folder:
        write(Path(folder), rows, batch)
        require_sound(Path(folder), VOCABULARY, lambda *_: None)
        yield TokenStore(Path(folder), limit)


def as_lists(rows: Sequence[Row]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    return [(row.ids.tolist(), list(row.spans)) for row in rows]


PARTS = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=9), st.integers(1, 4))
def test_rows_of_any_spans_come_back_as_they_were(shapes: list[Segments], batch: int) -> None:
    rows = rows_of(shapes)
    with stored(rows, batch=batch) as store:
        assert as_lists([store.row(index) for index in range(len(store))]) == as_lists(rows)
        learned = [sum(end - start for start, end in row.spans) for row in rows]
        others = [len(row.ids) - count for row, count in zip(rows, learned, strict=True)]
        for lengths in (store.lengths(range(len(rows))), store.lengths(list(range(len(rows)))), store.whole_lengths()):
            assert (lengths.prompt.tolist(), lengths.label.tolist()) == (others, learned)
        for index in range(len(rows) + 1):
            assert store.start("prompt", index) == sum(others[:index])
            assert store.start("label", index) == sum(learned[:index])
        assert store.bytes == sum((store.folder / name).stat().st_size for name in NAMES)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6), st.integers(2, 9))
def test_a_prompt_and_its_label_are_cut_apart_and_keep_their_ends(pairs: list[tuple[int, int]], limit: int) -> None:
    rows = rows_of([[(prompt, False), (label, True)] for prompt, label in pairs])
    with stored(rows, limit) as store:
        for index, row in enumerate(rows):
            for whole, part in ((row.prompt, store.prompt(index)), (row.label, store.label(index))):
                cut = whole if len(whole) <= limit else [*whole[: limit - 1], whole[-1]]
                assert part.tolist() == list(cut)
        lengths = store.lengths(range(len(rows)))
        assert lengths.total.tolist() == [len(store.row(index).ids) for index in range(len(rows))]


def test_several_spans_are_never_cut() -> None:
    rows = rows_of(CONVERSATIONS[:3])
    with stored(rows, limit=2) as store:
        assert as_lists([store.row(index) for index in (0, 2)]) == as_lists([rows[0], rows[2]])


def test_prompt_and_label_are_views_of_their_row() -> None:
    with stored(rows_of([[(3, False), (2, True)]])) as store:
        row = store.row(0)
        assert (row.prompt.tolist(), row.label.tolist()) == ([0, 1, 2], [3, 4])
        assert row.prompt.base is row.label.base is row.ids


def test_pairs_need_no_bytes_for_their_spans() -> None:
    with stored(rows_of([[(3, False), (2, True)]] * 5)) as store:
        assert (store.folder / "spans").stat().st_size == 0


def test_a_store_without_rows_between_batches_is_sound() -> None:
    empty = np.empty(0, dtype=np.int64)
    with TemporaryDirectory() as folder:
        with StoreWriter(Path(folder)) as out:
            for first, part in enumerate((rows_of(CONVERSATIONS[:1]), [], rows_of(CONVERSATIONS[:1]))):
                nothing = NewRows(empty.astype(np.uint16), empty, empty.reshape(-1, 2), empty, empty.astype(np.uint64))
                out.append(packed(part, first) if part else nothing)
            out.seal({"dtype": "uint16"})
        require_sound(Path(folder), VOCABULARY, lambda *_: None)
        assert len(TokenStore(Path(folder), LONG)) == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store of conversations."""
    write(tmp_path, rows_of(CONVERSATIONS), 2)
    return tmp_path


@pytest.mark.parametrize("name", [*NAMES, META])
def test_every_flipped_bit_of_every_file_is_noticed(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedError) as damage:
            require_sound(folder, VOCABULARY, lambda *_: None)
        assert damage.value.path in (path, folder / META)


def replaced(folder: Path, name: str, numbers: Sequence[int]) -> None:
    """Puts numbers in the place of a file, with hashes that fit."""
    path, meta = folder / name, read_json(folder / META)
    path.write_bytes(np.array(numbers, np.int64).tobytes())
    meta["files"][name] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    del meta["own_sha256"]
    own = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (folder / META).write_text(json.dumps({**meta, "own_sha256": own}))


IMPOSSIBLE: dict[str, Callable[[list[int]], list[int]]] = {
    "a span of nothing": lambda spans: [spans[0], spans[0], *spans[2:]],
    "a span backwards": lambda spans: [spans[1], spans[0], *spans[2:]],
    "an end without its start": lambda spans: spans[1:],
    "a span before the first row": lambda spans: [-1, *spans[1:]],
    "a span over two rows": lambda spans: [*spans[:3], 11, *spans[4:]],
    "a span beyond the last row": lambda spans: [*spans[:-1], 100],
    "fewer learned tokens than the row has": lambda spans: [spans[0] + 1, *spans[1:]],
    "spans in another order": lambda spans: [*spans[2:4], *spans[:2], *spans[4:]],
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_spans_that_fit_no_row_are_refused(folder: Path, kind: str) -> None:
    spans = np.frombuffer((folder / "spans").read_bytes(), np.int64).tolist()
    replaced(folder, "spans", IMPOSSIBLE[kind](spans))
    with pytest.raises(DamagedError) as damage:
        require_sound(folder, VOCABULARY, lambda *_: None)
    assert damage.value.path == folder / "spans"


def test_a_row_cannot_learn_more_tokens_than_it_has(folder: Path) -> None:
    ends = np.frombuffer((folder / "ends").read_bytes(), np.int64).reshape(-1, 2).copy()
    ends[-1, 1] += 1000
    replaced(folder, "ends", ends.ravel().tolist())
    with pytest.raises(DamagedError, match="out of order"):
        require_sound(folder, VOCABULARY, lambda *_: None)


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    os.unlink(folder / "spans")
    with pytest.raises(DamagedError) as damage:
        require_sound(folder, VOCABULARY, lambda *_: None)
    assert damage.value.path == folder / "spans"
