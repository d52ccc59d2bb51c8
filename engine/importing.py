"""Data of one's own: JSON, JSON Lines, CSV and Parquet in the usual shapes, turned into two columns of text.

Records are streamed, so that a file of any length takes the memory of one record and a few bytes for each row. All
rows go into a staged Parquet file first; sample and split are chosen by their hashes and then copied out of it.
"""

import codecs
import contextlib
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.messages import InputError
from engine.contract.rundir import STAGED, sync
from engine.parquet import BATCH_ROWS, STREAMED, opened, unreadable
from engine.texts import fault_of, row_hashes

CHUNK = 1 << 20  # characters read at a time
LONGEST_RECORD = 64 << 20  # characters
GROUP_ROWS = 10_000
PLACES, PREVIEW, SHOWN = 3, 3, 200
ENCODINGS = ("utf-8", "gb18030")
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Keys of a prompt and its response, first match wins; the columns that were asked for come before them.
PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("question", "answer"), ("query", "response"), ("问题", "回答"),
    ("问", "答"), ("input", "output"), ("instruction", "response"), ("prompt", "chosen"),
)  # fmt: skip
ASKING, ANSWERING = ("human", "user", "prompter"), ("gpt", "assistant", "bot", "chatgpt", "model")
SCHEMA = pa.schema([pa.field("prompt", pa.string(), nullable=False), pa.field("response", pa.string(), nullable=False)])
Pair = tuple[Any, Any]
Progress = Callable[[str, int, int], None]


class _RefusedError(Exception):
    """A record that cannot be used, and why."""


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
class _Found:
    """What was found so far."""

    formats: dict[str, str] = field(default_factory=dict)
    encodings: dict[str, str] = field(default_factory=dict)
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


# --- records


def _pairs(request: Request, found: _Found, progress: Progress) -> Iterator[tuple[str, str]]:
    for name in request.files:
        path = Path(name)
        for place, record in _records(path, request, found, progress):
            found.records += 1
            try:
                shape, pairs = _shaped(record, request)
                for prompt, response in pairs:
                    fault = _fault(prompt, response)
                    if fault:
                        raise _RefusedError(fault)
                    yield prompt, response
                found.shapes[shape] += 1
            except _RefusedError as refused:
                found.refuse(str(refused), f"{path.name}:{place}")


def _fault(prompt: Any, response: Any) -> str | None:
    for name, text in (("prompt", prompt), ("response", response)):
        if text is not None and not isinstance(text, str | bytes):
            return f"{name} is no text"
        if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
            return f"{name} is not UTF-8"
    return fault_of(prompt, response)


def _records(path: Path, request: Request, found: _Found, progress: Progress) -> Iterator[tuple[str, Any]]:
    """The records of a file with their places; an error in the place of a record that cannot be read."""
    with path.open("rb") as first:
        start = first.read(4)
    if start == b"PAR1" or path.suffix == ".parquet":
        found.formats[str(path)] = "parquet"
        yield from _parquet(path, request, progress)
        return
    encoding = _encoding(path)
    found.encodings[str(path)] = encoding
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding, errors="surrogateescape", newline="") as file:
        head = file.read(CHUNK)
        kind = _format(path, head)
        found.formats[str(path)] = kind
        file.seek(0)
        reader = {"json": _array, "jsonl": _lines, "csv": _csv, "tsv": _csv}[kind]
        size = path.stat().st_size
        for number, item in enumerate(reader(file)):
            if number % BATCH_ROWS == 0:
                progress(str(path), raw.tell(), size)
            yield item


def _encoding(path: Path) -> str:
    """The first encoding in which the whole file can be read; utf-8 where there is none."""
    with path.open("rb") as file:
        start = file.read(4)
        for bom, name in BOMS.items():
            if start.startswith(bom):
                return name
        for name in ENCODINGS:
            file.seek(0)
            decoder = codecs.getincrementaldecoder(name)()
            try:
                while data := file.read(CHUNK):
                    decoder.decode(data)
                decoder.decode(b"", final=True)
                return name
            except UnicodeDecodeError:
                continue
    return "utf-8"


def _format(path: Path, head: str) -> str:
    first = head.lstrip("\ufeff \t\r\n")[:1]
    if path.suffix == ".tsv":
        return "tsv"
    if path.suffix == ".csv" or first not in ("[", "{"):
        return "csv"
    if first == "[":
        return "json"
    line = head.lstrip("\ufeff \t\r\n").splitlines()[0]
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "json" if re.search(r'"data"\s*:\s*\[', head) else "jsonl"
    return "json" if isinstance(value, dict) and isinstance(value.get("data"), list) else "jsonl"


def _lines(file: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    number = 0
    while line := file.readline(LONGEST_RECORD):
        number += 1
        text = line.strip("\ufeff \t\r\n")
        if text:
            yield str(number), _json(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _RefusedError("broken JSON")


def _array(file: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    """The members of an array, or of the array under "data": decoded one after the other from a window of the text."""
    decode, window, number = json.JSONDecoder().raw_decode, file.read(CHUNK), 0
    opening = re.search(r'"data"\s*:\s*\[', window) if window.lstrip("\ufeff \t\r\n").startswith("{") else None
    at = opening.end() if opening else window.index("[") + 1
    while True:
        gap = re.compile(r"[\s,]*").match(window, at)
        at = gap.end() if gap else at
        if window[at : at + 1] == "]":
            return
        try:
            record, at = decode(window, at)
        except RecursionError:
            yield str(number + 1), _RefusedError("broken JSON")
            return
        except ValueError:
            more = file.read(max(CHUNK, len(window) - at))
            if not more or len(window) - at > LONGEST_RECORD:
                yield str(number + 1), _RefusedError("broken JSON")
                return
            window, at = window[at:] + more, 0
            continue
        number += 1
        yield str(number), record
        if at > CHUNK:
            window, at = window[at:], 0


def _csv(file: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    head = file.readline(CHUNK)
    file.seek(0)
    csv.field_size_limit(LONGEST_RECORD)
    delimiter = max(",\t;", key=head.count)
    reader = csv.DictReader((line.replace("\0", "") for line in file), delimiter=delimiter, strict=False)
    if reader.fieldnames:
        reader.fieldnames = [str(name).strip("\ufeff ") for name in reader.fieldnames]
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield str(reader.line_num), _RefusedError(f"broken CSV ({error})")
            continue
        yield str(reader.line_num), record


def _parquet(path: Path, request: Request, progress: Progress) -> Iterator[tuple[str, Any]]:
    file = opened(path, {})
    try:
        names = set(file.schema_arrow.names)
        asked = {request.prompt_column, request.response_column}
        known = {"instruction", "conversations", "messages", "conversation"}.union(*PAIRS)
        columns = sorted(asked if asked <= names else names & known)
        row, total = 0, file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            progress(str(path), row, total)
            for record in batch.to_pylist():
                row += 1
                yield str(row - 1), record
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


# --- shapes


def _shaped(record: Any, request: Request) -> tuple[str, list[Pair]]:
    """Name of the shape of a record, and its pairs; raises _RefusedError."""
    if isinstance(record, _RefusedError):
        raise record
    if not isinstance(record, Mapping):
        raise _RefusedError("not an object")
    asked = (request.prompt_column, request.response_column)
    if all(name in record for name in asked):
        return "/".join(asked), [(record[asked[0]], record[asked[1]])]
    for name in ("conversations", "messages", "conversation"):
        if isinstance(record.get(name), list):
            shape = "sharegpt" if name.startswith("conv") else "messages"
            return shape, _turns(record[name], record.get("system"))
    if "instruction" in record and "output" in record:
        prompt, more = record["instruction"], record.get("input")
        if isinstance(prompt, str) and isinstance(more, str) and more.strip():
            prompt = f"{prompt}\n{more}"
        return "alpaca", [(prompt, record["output"])]
    for first, second in PAIRS:
        if first in record and second in record:
            return f"{first}/{second}", [(record[first], record[second])]
    raise _RefusedError("no known columns")


def _turns(turns: list[Any], system: Any) -> list[Pair]:
    """One pair for each answer, with the question before it; a system's text goes before the first question."""
    pairs: list[Pair] = []
    asked, before = None, system if isinstance(system, str) and system.strip() else ""
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise _RefusedError("a turn is not an object")
        role = str(turn.get("from", turn.get("role", ""))).lower()
        text = _content(turn.get("value", turn.get("content")))
        if role == "system":
            before = text
        elif role in ASKING:
            asked = f"{before}\n{text}" if before and isinstance(text, str) else text
            before = ""
        elif role in ANSWERING and asked is not None:
            pairs.append((asked, text))
            asked = None
        elif role not in ANSWERING:
            raise _RefusedError(f"unknown role {role[:20]}" if role.isprintable() else "unknown role")
    if not pairs:
        raise _RefusedError("no question with an answer")
    return pairs


def _content(content: Any) -> Any:
    """The text of a message, which may come in parts."""
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        parts = [part.get("text") for part in content if part.get("type", "text") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content


# --- rows


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
        held, chosen = _split(prompts, request)
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


def _split(prompts: Any, request: Request) -> tuple[Any, Any]:
    """Which rows are held out and which are chosen at all, as masks; the same for the same seed and rows."""
    count = len(prompts)
    order = np.random.Generator(np.random.Philox(key=request.seed)).permutation(count)
    chosen = np.ones(count, dtype=bool)
    if request.sample:
        chosen[order[request.sample :]] = False
    held = np.zeros(count, dtype=bool)
    wanted = round(request.valid_ratio * int(chosen.sum())) if request.valid else 0
    if wanted:
        kinds, kind_of, sizes = np.unique(prompts[chosen], return_inverse=True, return_counts=True)
        places = np.flatnonzero(chosen)
        rank = np.full(len(kinds), count)
        np.minimum.at(rank, kind_of, np.argsort(order)[places])
        by_rank = np.argsort(rank)
        enough = int(np.searchsorted(np.cumsum(sizes[by_rank]), wanted)) + 1
        held[places] = np.isin(kind_of, by_rank[: min(enough, len(kinds) - 1)])
    return held, chosen


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
