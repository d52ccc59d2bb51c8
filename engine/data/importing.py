"""Data of one's own: JSON, JSON Lines, CSV and Parquet in the usual shapes, turned into two columns of text.

Records are streamed, so that a file of any length takes the memory of one record and a few bytes for each row. All
rows go into a staged Parquet file first; sample and split are chosen by their hashes and then copied out of it.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.files import STAGED
from engine.contract.files import staged as staged_at
from engine.contract.messages import InputError
from engine.contract.reasons import counted
from engine.contract.rundir import sync
from engine.data.account import Account, FileAccount, Notice, RefusedError
from engine.data.charset import require_encoding
from engine.data.readers import Progress, Wanted, missing_column, records
from engine.data.shapes import Pair, shaped
from engine.data.sources import sources_of
from engine.data.split import split
from engine.parquet import STREAMED
from engine.texts import fault_of, row_hashes

GROUP_ROWS = 10_000
PREVIEW, SHOWN = 3, 200
KEYS = 50  # of refused records, for the message that lists them
SURROGATE = re.compile("[\ud800-\udfff]")
SCHEMA = pa.schema([pa.field("prompt", pa.string(), nullable=False), pa.field("response", pa.string(), nullable=False)])


@dataclass(frozen=True)
class Request:
    """What to import and where to; without `train` nothing is written."""

    files: list[str]
    train: str = ""
    valid: str = ""
    prompt_column: str = ""  # none is named: the shape of each record tells
    response_column: str = ""
    encoding: str = ""  # of all text files; found out where it is empty
    shown: dict[str, str] = field(default_factory=dict)  # names of files, where they are others than their paths
    valid_ratio: float = 0.1
    sample: int = 0  # rows; 0: all
    seed: int = 23333
    overwrite: bool = False


def import_files(request: Request, progress: Progress) -> dict[str, Any]:
    """Imports, and tells what came of it; raises InputError. `progress` is given a path, bytes done and in all."""
    if request.encoding:
        require_encoding(request.encoding)
    account = Account()
    return _imported(request, account, _unique(_pairs(request, account, progress), account))


def import_pairs(request: Request, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The same for prompts and responses that are there already; raises InputError."""
    account = Account()
    return _imported(request, account, _unique(iter(pairs), account))


def require_plain(names: Iterable[str]) -> None:
    """Raises InputError that names the first of these that is no plain file."""
    for name in names:
        if not Path(name).is_file():
            raise InputError("file_missing", what="file", what_zh="文件", path=name, setting="train_file")


def _imported(request: Request, account: Account, rows: Iterator[tuple[str, str]]) -> dict[str, Any]:
    targets = [Path(path) for path in (request.train, request.valid) if path]
    for path in targets:
        if path.exists() and not request.overwrite:
            raise InputError("import_exists", path=str(path))
    counts = {"rows": sum(1 for _ in rows)} if not targets else _write(request, rows)
    if account.files and not account.records:
        raise InputError("rows_none", path=", ".join(file.path for file in account.files))
    if not counts["rows"]:
        why = counted(account.refused.counts())
        raise InputError("import_nothing", path=", ".join(request.files), records=account.records, **why)
    return {**account.to_json(), **counts, "train": request.train, "valid": request.valid}


def _pairs(request: Request, account: Account, progress: Progress) -> Iterator[tuple[str, str]]:
    sources = sources_of(request.files)
    account.passed_over = {request.shown.get(path, path): why for path, why in sources.passed_over.items()}
    for path in sources.files:
        yield from _file_pairs(path, request, account, progress)


def _file_pairs(path: Path, request: Request, account: Account, progress: Progress) -> Iterator[tuple[str, str]]:
    """The pairs of a file, which also go into the account; raises InputError."""
    file = FileAccount(request.shown.get(str(path), str(path)))
    account.files.append(file)
    wanted = Wanted(_named(request), request.encoding)
    keys: dict[str, None] = {}
    progress(str(path), 0, 0)
    for place, record in records(path, wanted, file, progress):
        where = f"{Path(file.path).name}:{place}"
        if isinstance(record, Notice):
            account.noticed.add(record, where)
            continue
        try:
            shape, pairs = _shaped(record, wanted)
            usable = [_usable(pair) for pair in pairs]
        except RefusedError as refused:
            if isinstance(record, Mapping) and len(keys) < KEYS:
                keys |= dict.fromkeys(map(str, record))
            account.refuse(file, _explained(refused, file), where)
            continue
        account.use(file, shape, len(usable))
        yield from usable
    for setting, column in wanted.columns.items():
        if file.records and not file.used and keys and column not in keys:
            raise missing_column(file.path, setting, column, list(keys))


def _named(request: Request) -> dict[str, str]:
    """The columns by setting, if one at least was named."""
    columns = {"prompt_column": request.prompt_column, "response_column": request.response_column}
    if not any(columns.values()):
        return {}
    return {setting: name or setting.removesuffix("_column") for setting, name in columns.items()}


def _shaped(record: Any, wanted: Wanted) -> tuple[str, list[Pair]]:
    """Name of a record's shape, and its pairs; of the columns that were named, where they were; raises RefusedError."""
    if isinstance(record, RefusedError):
        raise record
    if not wanted.columns or not isinstance(record, Mapping):
        return shaped(record, ("prompt", "response"))
    names = list(wanted.columns.values())
    for name in names:
        if name not in record:
            raise RefusedError("column_missing", name)
    return "/".join(names), [(record[names[0]], record[names[1]])]


def _explained(refused: RefusedError, file: FileAccount) -> RefusedError:
    """With all columns of a table, of which only those that some shape has were read."""
    if refused.code == "no_known_columns" and file.columns:
        return RefusedError(refused.code, ", ".join(file.columns))
    return refused


def _usable(pair: Pair) -> tuple[str, str]:
    """The pair, if both are texts with something in them; raises RefusedError."""
    prompt, response = pair
    for name, text in (("prompt", prompt), ("response", response)):
        if text is not None and not isinstance(text, str | bytes):
            raise RefusedError(f"{name}_not_text")
        if isinstance(text, str) and SURROGATE.search(text):
            raise RefusedError(f"{name}_not_utf8")
    fault = fault_of(prompt, response)
    if fault:
        raise RefusedError(fault)
    return prompt, response


def _unique(pairs: Iterator[tuple[str, str]], account: Account) -> Iterator[tuple[str, str]]:
    seen: set[int] = set()
    for pair in pairs:
        (digest,) = row_hashes([pair]).tolist()
        if digest in seen:
            account.repeated += 1
            continue
        seen.add(digest)
        if len(account.preview) < PREVIEW:
            account.preview.append([text[:SHOWN] for text in pair])
        yield pair


def _write(request: Request, rows: Iterator[tuple[str, str]]) -> dict[str, int]:
    """Writes the chosen rows; both files or none. Raises InputError."""
    targets = {"train": Path(request.train), "valid": Path(request.valid) if request.valid else None}
    folder = targets["train"].parent  # type: ignore[union-attr]  # the training file is always there
    staged = {name: staged_at(path) for name, path in targets.items() if path}
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
