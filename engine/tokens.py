"""Parquet in, a memory-mapped store of token ids out: every rank maps the same files, no row is held in memory.

Rows are streamed from Parquet one batch at a time, cut at `max_seq_len` tokens (the end token included), and left
out where prompt or response is empty. The store is named after the content of file, tokenizer and length, so a
change of any of them makes a new one.
"""

import contextlib
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.messages import InputError, Message
from engine.contract.rundir import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 1024
FORMAT = 1
Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """The rows of one Parquet file; `setting` names the option that chose it."""

    path: Path
    setting: str
    prompt_column: str
    response_column: str

    def open(self) -> pq.ParquetFile:
        """The file with both columns checked; raises InputError."""
        try:
            file = pq.ParquetFile(self.path, page_checksum_verification=True)
            schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        for column, option in ((self.prompt_column, "prompt_column"), (self.response_column, "response_column")):
            self._check_column(schema, column, option)
        return file

    def _check_column(self, schema: pa.Schema, column: str, option: str) -> None:
        if schema.get_field_index(column) < 0:
            names = ", ".join(schema.names)
            raise InputError("column_missing", path=str(self.path), column=column, columns=names, setting=option)
        kind = schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise InputError("column_not_text", path=str(self.path), column=column, kind=str(kind), setting=option)

    def batches(self, file: pq.ParquetFile) -> Iterator[tuple[list[str | bytes | None], list[str | bytes | None]]]:
        """Prompts and responses, a batch at a time; bytes where a text is not UTF-8; raises InputError."""
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=[self.prompt_column, self.response_column]):
                yield _texts(batch.column(self.prompt_column)), _texts(batch.column(self.response_column))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> InputError:
        return InputError("parquet_bad", path=str(self.path), why=" ".join(str(error).split())[:300])


def _texts(column: pa.Array) -> list[str | bytes | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        texts: list[str | bytes | None] = column.to_pylist()
    except UnicodeDecodeError:
        texts = [_decoded(raw) for raw in column.cast(pa.large_binary()).to_pylist()]
    return texts


def _decoded(raw: bytes | None) -> str | bytes | None:
    with contextlib.suppress(UnicodeDecodeError, AttributeError):
        return raw.decode("utf-8")  # type: ignore[union-attr]  # None is what the suppression is for
    return raw


class TokenStore:
    """The token ids of one data file: `prompt(i)`, `label(i)` and the lengths of all, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.meta = read_json(folder / "meta.json")
        kind = np.dtype(self.meta["dtype"])
        self._ids = {part: _mapped(folder / f"{part}.ids", kind) for part in ("prompt", "label")}
        self._ends = {part: _mapped(folder / f"{part}.ends", np.dtype(np.int64)) for part in ("prompt", "label")}
        self.rows = _mapped(folder / "rows", np.dtype(np.int64))  # row number in the Parquet file, from 0

    def __len__(self) -> int:
        return len(self.rows)

    def prompt(self, index: int) -> Ids:
        """Token ids of a prompt, end token included."""
        return self._slice("prompt", index)

    def label(self, index: int) -> Ids:
        """Token ids of a response, end token included."""
        return self._slice("label", index)

    def lengths(self, part: str, indices: Sequence[int]) -> Ids:
        """Lengths in tokens of the parts ("prompt" or "label") of some samples."""
        chosen = np.asarray(indices, dtype=np.int64)
        ends = self._ends[part]
        starts = np.where(chosen > 0, ends[chosen - 1], 0)
        return np.asarray(ends[chosen] - starts)

    def _slice(self, part: str, index: int) -> Ids:
        ends = self._ends[part]
        start = int(ends[index - 1]) if index else 0
        return self._ids[part][start : int(ends[index])].astype(np.int64)

    def notices(self, path: Path) -> list[Message]:
        """What was left out and cut off when the rows were tokenized."""
        meta, notes = self.meta, []
        shown = {"path": str(path), "rows": meta["rows"]}
        if meta["dropped"]:
            count, reasons = sum(meta["dropped"].values()), _reasons(meta["dropped"])
            first = meta["first_dropped"]
            notes.append(Message.of("rows_dropped", dropped=count, reasons=reasons, first=first, **shown))
        if meta["cut_rows"]:
            cut = {name: meta[name] for name in ("cut_rows", "cut_tokens", "tokens", "limit")}
            notes.append(Message.of("rows_truncated", **shown, **cut))
        return notes


def _mapped(path: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.memmap(path, dtype=kind, mode="r")


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items()))


def open_store(
    source: Source, tokenizer: "PreTrainedTokenizerBase", max_len: int, root: Path, progress: Progress
) -> TokenStore:
    """The store of `source`, made where it is not there yet; raises InputError.

    `progress` is called with rows done and rows in all.
    """
    store = store_path(source, tokenizer, max_len, root)
    if not (store / "meta.json").is_file():
        staged = store.with_name(f".tmp-{store.name}-{os.getpid()}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            staged.mkdir()
            _build(source, tokenizer, max_len, staged, progress)
            with contextlib.suppress(OSError):  # another process was first: its store is the same
                staged.rename(store)
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError("folder_unwritable", path=str(root), why=why, setting="token_store") from None
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            _remove_if_empty(root)
    return TokenStore(store)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def store_path(source: Source, tokenizer: "PreTrainedTokenizerBase", max_len: int, root: Path) -> Path:
    """The folder of the store of this content: data, columns, tokenizer and length."""
    parts = (
        FORMAT,
        file_sha256(source.path),
        source.prompt_column,
        source.response_column,
        tokenizer_sha256(tokenizer),
        max_len,
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return root / f"{source.path.stem}-{name}"


def file_sha256(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A hash of what the tokenizer does: its whole serialized form, or its vocabulary where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    form = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()


def _build(
    source: Source, tokenizer: "PreTrainedTokenizerBase", max_len: int, folder: Path, progress: Progress
) -> None:
    file = source.open()
    total = file.metadata.num_rows
    kind = np.dtype(np.uint16 if max(tokenizer.get_vocab().values()) < 1 << 16 else np.uint32)
    dropped: Counter[str] = Counter()
    first_dropped = -1
    tally = _Tally()
    seen = 0
    with contextlib.ExitStack() as stack:
        out = {
            name: stack.enter_context((folder / name).open("wb"))
            for name in ("prompt.ids", "label.ids", "prompt.ends", "label.ends", "rows")
        }
        for prompts, labels in source.batches(file):
            faults = [_fault(prompt, label) for prompt, label in zip(prompts, labels, strict=True)]
            kept = [i for i, fault in enumerate(faults) if fault is None]
            if first_dropped < 0 and len(kept) < len(faults):
                first_dropped = seen + next(i for i, fault in enumerate(faults) if fault is not None)
            dropped.update(fault for fault in faults if fault is not None)
            ids = {
                "prompt": encode([str(prompts[i]) for i in kept], tokenizer),
                "label": encode([str(labels[i]) for i in kept], tokenizer),
            }
            tally.count(ids["prompt"], ids["label"], max_len)
            for part, rows in ids.items():
                short = [cut(row, max_len) for row in rows]
                try:
                    tally.ends[part] = _append(out[f"{part}.ids"], out[f"{part}.ends"], short, kind, tally.ends[part])
                except OverflowError as error:  # a token beyond its own vocabulary
                    raise InputError("tokenizer_bad", path=str(tokenizer.name_or_path), why=str(error)) from None
            out["rows"].write((np.array(kept, dtype=np.int64) + seen).tobytes())
            seen += len(prompts)
            progress(seen, total)
        for written in out.values():  # on the disk before meta.json says that the store is whole
            written.flush()
            os.fsync(written.fileno())
    if seen == sum(dropped.values()):
        raise InputError(
            "rows_all_empty",
            path=str(source.path),
            dropped=seen,
            rows=seen,
            reasons=_reasons(dropped),
            prompt=source.prompt_column,
            response=source.response_column,
        )
    write_json(
        folder / "meta.json",
        {
            "dtype": kind.name,
            "rows": seen,
            "dropped": dict(dropped),
            "first_dropped": first_dropped,
            "limit": max_len,
            "tokens": tally.tokens,
            "cut_tokens": tally.cut_tokens,
            "cut_rows": tally.cut_rows,
        },
    )


def _fault(prompt: str | bytes | None, label: str | bytes | None) -> str | None:
    """Why a row cannot be used, or None where it can."""
    for name, text in (("prompt", prompt), ("response", label)):
        if text is None:
            return f"{name} is null"
        if isinstance(text, bytes):
            return f"{name} is not UTF-8"
        if not text.strip():
            return f"{name} is empty"
    return None


class _Tally:
    """Counts of tokens and of what truncation cut, over both parts of every row."""

    def __init__(self) -> None:
        self.ends = {"prompt": 0, "label": 0}
        self.tokens = self.cut_tokens = self.cut_rows = 0

    def count(self, prompts: list[list[int]], labels: list[list[int]], limit: int) -> None:
        """Adds some rows, given before they are cut at `limit` tokens."""
        for row in zip(prompts, labels, strict=True):
            over = sum(max(0, len(ids) - limit) for ids in row)
            self.tokens += sum(map(len, row))
            self.cut_tokens += over
            self.cut_rows += over > 0


def encode(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Token ids of `texts`, each ending in the end token."""
    if not texts:
        return []
    eos = tokenizer.eos_token_id
    encoded = tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
    return [ids if ids and ids[-1] == eos else [*ids, eos] for ids in encoded]


def cut(ids: list[int], limit: int) -> list[int]:
    """At most `limit` of the ids, the end token among them."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _append(ids_file: BinaryIO, ends_file: BinaryIO, rows: list[list[int]], kind: np.dtype[Any], end: int) -> int:
    """Writes rows after the `end` tokens written so far; tokens written now."""
    if not rows:
        return end
    ends = np.cumsum([len(ids) for ids in rows], dtype=np.int64) + end
    ids_file.write(np.concatenate([np.asarray(ids, dtype=kind) for ids in rows]).tobytes())
    ends_file.write(ends.tobytes())
    return int(ends[-1])
