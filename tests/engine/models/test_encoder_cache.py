import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.cpu import placement
from engine.data.batching import Lengths
from engine.models import encoder_cache as module
from engine.models.encoder_cache import CacheShape, Encodings, files_of

LENGTHS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]  # the last group has two rows
WIDTH = 6
KINDS = [torch.bfloat16, torch.float32]
NEIGHBOURS = 4  # few enough for a small store to have several groups


@pytest.fixture(autouse=True)
def few_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", NEIGHBOURS)


class Store:
    """As much of a token store as encodings ask for."""

    def __init__(self) -> None:
        self.ends = np.cumsum(LENGTHS)

    def __len__(self) -> int:
        return len(LENGTHS)

    def prompt(self, row: int) -> np.ndarray[Any, Any]:
        return np.arange(LENGTHS[row], dtype=np.int64) + 100 * row

    def lengths(self, rows: Sequence[int]) -> Lengths:
        return Lengths(np.array([LENGTHS[row] for row in rows]), np.zeros(len(rows), dtype=np.int64))

    def start(self, part: str, row: int) -> int:
        assert part == "prompt"
        return int(self.ends[row]) - LENGTHS[row]


class Encoder:
    """Gives a row other numbers in other company, as matrix products may, and counts."""

    def __init__(self, kind: torch.dtype) -> None:
        self.kind, self.groups = kind, list[list[int]]()

    def __call__(self, prompts: Sequence[Tensor]) -> list[Tensor]:
        self.groups.append([int(prompt[0]) // 100 for prompt in prompts])
        company = sum(int(prompt.sum()) for prompt in prompts)
        return [torch.outer(prompt + company, torch.linspace(0.1, 1, WIDTH)).to(self.kind) for prompt in prompts]


def opened(folder: Path, encoder: Encoder) -> Encodings:
    store: Any = Store()
    return Encodings.open(store, CacheShape(sum(LENGTHS), WIDTH, encoder.kind), encoder, folder / "encodings")


def expected(row: int, kind: torch.dtype) -> Tensor:
    first = row // NEIGHBOURS * NEIGHBOURS
    prompts = [torch.from_numpy(Store().prompt(other)) for other in range(len(LENGTHS))[first : first + NEIGHBOURS]]
    return Encoder(kind)(prompts)[row - first]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writes", [True, False])
def test_a_row_always_has_the_same_encoding(tmp_path: Path, kind: torch.dtype, writes: bool) -> None:
    encodings = opened(tmp_path, Encoder(kind))
    encodings.writes = writes
    for asked in ([9, 0], [5, 4, 2], list(range(10)), [3, 3, 8], list(range(9, -1, -1))):
        found = encodings.of(asked)
        assert all(torch.equal(ours, expected(row, kind)) for ours, row in zip(found, asked, strict=True))
        assert {one.dtype for one in found} == {kind}


def test_a_group_is_encoded_once(tmp_path: Path) -> None:
    encoder = Encoder(torch.float32)
    encodings = opened(tmp_path, encoder)
    encodings.of([1, 2])
    assert encoder.groups == [[0, 1, 2, 3]]
    encodings.of([0, 3, 9])
    assert encoder.groups == [[0, 1, 2, 3], [8, 9]]
    encodings.of(list(range(10)))
    encodings.of(list(range(10)))
    assert encoder.groups == [[0, 1, 2, 3], [8, 9], [4, 5, 6, 7]]


def test_on_a_device_what_was_encoded_is_written_when_more_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    encoder, written = Encoder(torch.float32), list[int]()

    def fetched(tensor: Tensor) -> Callable[[], Tensor]:
        def read() -> Tensor:
            written.append(len(tensor))
            return tensor

        return read

    monkeypatch.setattr(placement, "fetched", fetched)
    encodings = opened(tmp_path, encoder)
    for asked, groups, done in (([5, 1], 2, []), ([6, 9], 3, [22, 9]), ([0, 9, 8], 3, [22, 9, 8])):
        found = encodings.of(asked)
        assert all(torch.equal(ours, expected(row, torch.float32)) for ours, row in zip(found, asked, strict=True))
        assert (len(encoder.groups), written) == (groups, done)
    again = opened(tmp_path, encoder)
    assert all(torch.equal(one, other) for one, other in zip(again.of([0, 8]), encodings.of([0, 8]), strict=True))


def test_ranks_share_encodings(tmp_path: Path) -> None:
    first, second = Encoder(torch.bfloat16), Encoder(torch.bfloat16)
    one, other = opened(tmp_path, first), opened(tmp_path, second)
    for file in files_of(tmp_path / "encodings"):
        file.unlink()
    one.of([6])
    (found,) = other.of([5])
    assert torch.equal(found, expected(5, torch.bfloat16))
    assert second.groups == []


def flip(values: Path) -> None:
    """Changes one bit of what is kept of row 5."""
    content = bytearray(values.read_bytes())
    content[sum(LENGTHS[:5]) * WIDTH * 4 + 3] ^= 8
    values.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, lambda values: os.truncate(values, sum(LENGTHS[:5]) * WIDTH * 4 + 3)])
def test_a_damaged_encoding_is_computed_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    encoder = Encoder(torch.float32)
    encodings = opened(tmp_path, encoder)
    encodings.of(list(range(10)))
    damage(tmp_path / "encodings")
    for _ in range(2):
        found = encodings.of([5, 0])
        assert all(torch.equal(ours, expected(row, torch.float32)) for ours, row in zip(found, [5, 0], strict=True))
    assert encoder.groups[3:] == [[4, 5, 6, 7]]  # once: it is stored again


def test_on_a_full_disk_rows_are_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(torch.float32)
    encodings = opened(tmp_path, encoder)
    encodings.of([0])

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(2):
        found = encodings.of([0, 9])
        assert all(torch.equal(ours, expected(row, torch.float32)) for ours, row in zip(found, [0, 9], strict=True))
    assert encoder.groups == [[0, 1, 2, 3], [8, 9], [8, 9]]
    assert not encodings.writes


def test_a_partial_write_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, whole = Encoder(torch.float32), os.pwrite
    encodings = opened(tmp_path, encoder)
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: whole(file, bytes(data)[:-1], place))
    for _ in range(2):
        (found,) = encodings.of([4])
        assert torch.equal(found, expected(4, torch.float32))
    assert encoder.groups == [[4, 5, 6, 7]] * 2


def test_the_size_on_disk_is_reported(tmp_path: Path) -> None:
    for kind, size in ((torch.bfloat16, 2), (torch.float32, 4)):
        assert CacheShape(sum(LENGTHS), WIDTH, kind).bytes == sum(LENGTHS) * WIDTH * size
    encodings = opened(tmp_path, Encoder(torch.float32))
    encodings.of(list(range(10)))
    values, _ = files_of(tmp_path / "encodings")
    assert values.stat().st_size == CacheShape(sum(LENGTHS), WIDTH, torch.float32).bytes


def test_a_cache_without_a_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "missing", Encoder(torch.float32))
