"""What a data file and a tokenizer are recognized by: hashes of their content."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.durable import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEMBERED_BYTES = 64 << 20  # smaller files are hashed in 0.1 s
HASHED_AT_ONCE = 4 << 20  # bytes
Progress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """A progress callback that does nothing."""


def fingerprint(path: Path, root: Path, progress: Progress = _silent) -> str:
    """The hash of a data file's content; for a large file it is cached in the folder `root` until the file changes.

    Writing to a file updates its change time, which programs cannot set back. `progress` is called with megabytes done
    and megabytes in total.
    """
    status = path.stat()
    if status.st_size < REMEMBERED_BYTES:
        return file_sha256(path)
    place = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    note = root / f"fingerprint-{place}.json"
    now = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    noted = read_json(note)
    if noted.get("status") == now and isinstance(noted.get("sha256"), str):
        return str(noted["sha256"])
    found = file_sha256(path, progress)
    with contextlib.suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        write_json(note, {"status": now, "sha256": found})
    return found


def file_sha256(path: Path, progress: Progress = _silent) -> str:
    """The hash of a file's content; `progress` is called with megabytes done and megabytes in total."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        while data := file.read(HASHED_AT_ONCE):
            digest.update(data)
            done += len(data)
            progress(done // 1_000_000, total // 1_000_000)
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A hash of the tokenizer's behaviour: of its whole serialized form, or of its vocabulary if it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    form = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()
