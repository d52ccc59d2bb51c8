"""The output of a frozen encoder, kept on disk from one epoch to the next.

A row is always encoded together with the same few neighbours from the training file, whichever of them is needed
first. So its encoding has the same bits in every epoch, on every rank and after a resume, whether it was read back or
recomputed.

On a GPU new encodings are used where they are, and written once the next ones are asked for: until then the host need
not wait for them.
"""

import contextlib
import mmap
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from engine.cpu import placement
from engine.data.token_store import TokenStore
from engine.process.world import World

# Rows encoded together. More would use matrix products better, but make the first steps of a run encode more rows
# that they do not need: with 8 the first of 16 rows encodes up to 128.
NEIGHBOURS = 8
MARK_BYTES = 8

Encode = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class CacheShape:
    """Sizes of the cache: tokens of all prompts, width, and dtype of a number."""

    tokens: int
    width: int
    kind: torch.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one token."""
        return self.width * self.kind.itemsize

    @property
    def bytes(self) -> int:
        """Bytes on disk once every row is kept."""
        return self.tokens * self.row_bytes


class Encodings:
    """The encodings of one training file, shared by all ranks of a machine; the file has no name once it is open."""

    def __init__(self, store: TokenStore, shape: CacheShape, encode: Encode, values: int, flags: int) -> None:
        self._store, self._shape, self._encode, self._values = store, shape, encode, values
        self.writes = True  # otherwise rows are recomputed each time, to the same bits
        self._coming: list[tuple[range, Callable[[], Tensor]]] = []  # rows, and their encodings on the way to the host
        size = len(store) * MARK_BYTES
        os.ftruncate(flags, size)
        # For each row, the checksum of its encoding plus one, once that is written: a disk that returns something else
        # would silently train a different model.
        self._marks = memoryview(mmap.mmap(flags, size)).cast("Q")

    @classmethod
    def open(cls, store: TokenStore, shape: CacheShape, encode: Encode, base: Path) -> Self:
        """Opens the two files whose names begin with `base`, creating missing ones; raises OSError."""
        with contextlib.ExitStack() as undo:
            descriptors = []
            for name in files_of(base):
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                undo.callback(os.close, descriptor)
                descriptors.append(descriptor)
            opened = cls(store, shape, encode, *descriptors)
            undo.pop_all()
        return opened

    def of(self, samples: Sequence[int]) -> list[Tensor]:
        """The encodings of some rows, each (prompt tokens, width): kept ones on the host, new ones on their device."""
        self._write_coming()
        wanted, found = set(samples), dict[int, Tensor]()
        for sample in samples:
            if sample not in found:
                kept = self._read(sample)
                found |= self._compute(sample // NEIGHBOURS, wanted) if kept is None else {sample: kept}
        return [found[sample] for sample in samples]

    def _compute(self, group: int, wanted: set[int]) -> dict[int, Tensor]:
        first = group * NEIGHBOURS
        rows = range(first, min(first + NEIGHBOURS, len(self._store)))
        found = self._encode([torch.from_numpy(self._store.prompt(row)) for row in rows])
        if placement.on_host(found[0]):
            self._keep(rows, found)
            return dict(zip(rows, found, strict=True))
        if self.writes:
            self._coming.append((rows, placement.fetched(torch.cat(found))))
        # The others' memory is freed: a step may need a row of many groups.
        return {row: values.clone() for row, values in zip(rows, found, strict=True) if row in wanted}

    def _write_coming(self) -> None:
        """Writes what was encoded on a device since the last call."""
        for rows, read in self._coming:
            tokens = self._store.lengths(rows).prompt.tolist()
            self._keep(rows, read().split(tokens))
        self._coming.clear()

    def _keep(self, rows: range, encoded: Sequence[Tensor]) -> None:
        if not self.writes:
            return
        try:
            for row, values in zip(rows, encoded, strict=True):
                self._write(row, values)
        except OSError:  # the disk is full and is needed for checkpoints: rows are encoded again instead
            self.writes = False

    def _write(self, row: int, values: Tensor) -> None:
        data = _bytes_of(values.contiguous())
        place = self._store.start("prompt", row) * self._shape.row_bytes
        if os.pwrite(self._values, data, place) != len(data):
            raise OSError("written in part")
        self._marks[row] = zlib.crc32(data) + 1

    def _read(self, row: int) -> Tensor | None:
        """The stored encoding of a row; None if there is none, or if its checksum does not match."""
        mark = self._marks[row]
        if not mark:
            return None
        tokens = int(self._store.lengths([row]).prompt[0])
        found = torch.empty(tokens, self._shape.width, dtype=self._shape.kind)
        data = _bytes_of(found)
        try:
            size = os.preadv(self._values, [data], self._store.start("prompt", row) * self._shape.row_bytes)
        except OSError:
            return None
        return found if size == len(data) and zlib.crc32(data) + 1 == mark else None


def _bytes_of(values: Tensor) -> memoryview:
    return values.view(torch.uint8).numpy().data.cast("B")


def shared_encodings(
    world: World, store: TokenStore, shape: CacheShape, encode: Encode, base: Path, *, writes: bool
) -> Encodings | None:
    """The encodings of `store` in files whose names begin with `base`, or by the same computation.

    Every rank calls it; returns None on all of them if the files could not be opened. Without `writes` they stay empty.
    """
    found = world.shared(lambda: Encodings.open(store, shape, encode, base), files_of(base))
    if found is not None:
        found.writes = writes
    return found


def files_of(base: Path) -> tuple[Path, Path]:
    """The files of the values and of the marks of known rows, until they are unlinked."""
    return base, base.with_name(base.name + "-known")
