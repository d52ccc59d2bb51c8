"""Data of one's own: JSON, JSON Lines, CSV and Parquet in the usual shapes, turned into two columns of text.

Records are streamed, so that a file of any length takes the memory of one record and a few bytes for each row. All
rows go into a staged Parquet file first; sample and split are chosen by their hashes and then copied out of it.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.messages import InputError
from engine.contract.rundir import STAGED, sync
from engine.data.readers import Progress, Sources, records
from engine.data.shapes import RefusedError, shaped
from engine.data.split import split
from engine.parquet import STREAMED
from engine.texts import fault_of, row_hashes

GROUP_ROWS = 10_000
PLACES, PREVIEW, SHOWN = 3, 3, 200
SCHEMA = pa.schema([pa.field("prompt", pa.string(), nullable=False), pa.field("response", pa.string(), nullable=False)])


@dataclass(frozen=True)
class Request:
    """What to import and where to; without `train` nothing is written."""

    files: list[str]
    train: str = ""
    valid: str = ""
    prompt_column: str = "prompt"
    response_column: str = "response"
    valid_ratio: float = 0.1
    sample: int = 0  # rows; 0: all
    seed: int = 23333
    overwrite: bool = False


@dataclass
class _Found(Sources):
    """What was found so far."""

    shapes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    refused_at: dict[str, list[str]] = field(default_factory=dict)
    records: int = 0
    duplicates: int = 0
    preview: list[list[str]] = field(default_factory=list)

    def refuse(self, why: str, place: str) -> None:
        self.refused[why] += 1
        places = self.refused_at.setdefault(why, [])
        if len(places) < PLACES:
            places.append(place)


def import_files(request: Request, progress: Progress) -> dict[str, Any]:
    """Imports, and tells what came of it; raises InputError. `progress` is given a path, bytes done and in all."""
    require_plain(request.files)
    found = _Found()
    return _imported(request, found, _unique(_pairs(request, found, progress), found))


def import_pairs(request: Request, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The same for prompts and responses that are there already; raises InputError."""
    found = _Found()
    return _imported(request, found, _unique(iter(pairs), found))


def require_plain(names: Iterable[str]) -> None:
    """Raises InputError that names the first of these that is no plain file."""
    for name in names:
        if not Path(name).is_file():
            raise InputError("file_missing", what="file", what_zh="文件", path=name, setting="train_file")


def _imported(request: Request, found: _Found, rows: Iterator[tuple[str, str]]) -> dict[str, Any]:
    targets = [Path(path) for path in (request.train, request.valid) if path]
    for path in targets:
        if path.exists() and not request.overwrite:
            raise InputError("import_exists", path=str(path))
    counts = {"rows": sum(1 for _ in rows)} if not targets else _write(request, rows)
    if not counts["rows"]:
        reasons = ", ".join(f"{why}: {count}" for why, count in found.refused.most_common(3)) or "-"
        raise InputError("import_nothing", path=", ".join(request.files), records=found.records, reasons=reasons)
    return {**vars(found), **counts, "train": request.train, "valid": request.valid}


def _pairs(request: Request, found: _Found, progress: Progress) -> Iterator[tuple[str, str]]:
    asked = (request.prompt_column, request.response_column)
    for name in request.files:
        path = Path(name)
        for place, record in records(path, asked, found, progress):
            found.records += 1
            try:
                shape, pairs = shaped(record, asked)
                for prompt, response in pairs:
                    fault = _fault(prompt, response)
                    if fault:
                        raise RefusedError(fault)
                    yield prompt, response
                found.shapes[shape] += 1
            except RefusedError as refused:
                found.refuse(str(refused), f"{path.name}:{place}")


def _fault(prompt: Any, response: Any) -> str | None:
    for name, text in (("prompt", prompt), ("response", response)):
        if text is not None and not isinstance(text, str | bytes):
            return f"{name} is no text"
        if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
            return f"{name} is not UTF-8"
    return fault_of(prompt, response)


def _unique(pairs: Iterator[tuple[str, str]], found: _Found) -> Iterator[tuple[str, str]]:
    seen: set[int] = set()
    for pair in pairs:
        (digest,) = row_hashes([pair]).tolist()
        if digest in seen:
            found.duplicates += 1
            continue
        seen.add(digest)
        if len(found.preview) < PREVIEW:
            found.preview.append([text[:SHOWN] for text in pair])
        yield pair


def _write(request: Request, rows: Iterator[tuple[str, str]]) -> dict[str, int]:
    """Writes the chosen rows; both files or none. Raises InputError."""
    targets = {"train": Path(request.train), "valid": Path(request.valid) if request.valid else None}
    folder = targets["train"].parent  # type: ignore[union-attr]  # the training file is always there
    staged = {name: _staged(path) for name, path in targets.items() if path}
    pool = folder / f"{STAGED}import-{os.getpid()}.parquet"
    try:
        for path in filter(None, targets.values()):
            path.parent.mkdir(parents=True, exist_ok=True)
        prompts = _stage(pool, rows)
        share = request.valid_ratio if request.valid else 0
        held, chosen = split(prompts, request.seed, request.sample, share)
        counts = _copy(pool, staged, held, chosen)
        for name, path in staged.items():
            if counts["rows"]:
                sync(path)
                path.rename(targets[name] or path)
                sync(path.parent)
        return counts
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError("folder_unwritable", path=str(folder), why=why, setting="train") from None
    finally:
        for path in (pool, *staged.values()):
            with contextlib.suppress(OSError):  # its folder is none
                path.unlink()


def _staged(path: Path) -> Path:
    return path.with_name(f"{STAGED}{path.name}-{os.getpid()}")


def _stage(pool: Path, rows: Iterator[tuple[str, str]]) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """Writes all rows to `pool`; the hashes of their prompts."""
    hashes, batch = [], []
    with pq.ParquetWriter(pool, SCHEMA, compression="snappy") as writer:
        for row in rows:
            batch.append(row)
            if len(batch) == GROUP_ROWS:
                hashes.append(_put(writer, batch))
                batch = []
        if batch:
            hashes.append(_put(writer, batch))
    return np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)


def _put(writer: pq.ParquetWriter, batch: list[tuple[str, str]]) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    writer.write_table(pa.table([[p for p, _ in batch], [r for _, r in batch]], schema=SCHEMA))
    return row_hashes([(prompt, "") for prompt, _ in batch])


def _copy(pool: Path, staged: Mapping[str, Path], held: Any, chosen: Any) -> dict[str, int]:
    writers = {
        name: pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True)
        for name, path in staged.items()
    }
    counts = {"rows": int(chosen.sum()), "train_rows": 0, "valid_rows": 0}
    try:
        start = 0
        for batch in pq.ParquetFile(pool, **STREAMED).iter_batches(GROUP_ROWS):
            part = slice(start, start + len(batch))
            start += len(batch)
            masks = {"train": chosen[part] & ~held[part], "valid": held[part]}
            for name, writer in writers.items():
                table = pa.Table.from_batches([batch]).filter(pa.array(masks[name]))
                if len(table):
                    writer.write_table(table)
                counts[f"{name}_rows"] += len(table)
    finally:
        for writer in writers.values():
            writer.close()
    return counts
