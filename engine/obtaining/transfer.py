"""A file from a hub: continued where an earlier download stopped, and kept only if its hash is the published one."""

import hashlib
import io
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import httpx2
from huggingface_hub import constants
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import disable_progress_bars, get_session, hf_raise_for_status

from engine.contract.messages import InputError
from engine.obtaining.repository import RemoteFile

PIECE = 256 << 10  # bytes that are received at once, and lost at most if the process is killed
CHUNK = 4 << 20
ATTEMPTS, PAUSE_SECONDS = 3, 1.0  # of a connection that breaks; http_get itself tries again where it times out
LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
Report = Callable[[int], None]  # bytes of the file that are on the disk


class _TooLong(Exception):
    """More arrives than the file has."""


class _Counted(io.FileIO):
    """A file that reports how large it is whenever something was written, and takes no more than it should hold."""

    def __init__(self, path: Path, most: int, report: Report) -> None:
        super().__init__(path, "r+" if path.exists() else "x+")
        self.seek(0, io.SEEK_END)
        self._most, self._report = most, report

    def write(self, data: Any) -> int:
        """Writes all of `data`; raises OSError."""
        view, done = memoryview(data), 0
        if self.tell() + len(view) > self._most:
            raise _TooLong
        while done < len(view):
            done += super().write(view[done:])
        self._report(self.tell())
        return done


def download(url: str, headers: Mapping[str, str], file: RemoteFile, path: Path, report: Report) -> None:
    """Completes `path`, which may hold the beginning of the file; raises OSError, and what httpx2 and the hub raise.

    A part that an earlier command left is continued; if the whole has another hash then, it is fetched once more.
    """
    continued = path.exists()
    if continued and path.stat().st_size > file.size:
        path.unlink()
    intact = _received(url, headers, file, path, report)
    if not intact and continued:
        path.unlink(missing_ok=True)
        intact = _received(url, headers, file, path, report)
    if not intact:
        path.unlink(missing_ok=True)
        raise InputError("hub_hash", file=file.name, url=url.partition("?")[0])


def _received(url: str, headers: Mapping[str, str], file: RemoteFile, path: Path, report: Report) -> bool:
    """Whether the whole published file is there, once no more of it arrives."""
    try:
        _receive(url, headers, file, path, report)
    except _TooLong:
        return False
    finally:
        if path.exists() and file.size and not path.stat().st_size:
            path.unlink()
    return is_intact(path, file)


def _receive(url: str, headers: Mapping[str, str], file: RemoteFile, path: Path, report: Report) -> None:
    disable_progress_bars()
    constants.DOWNLOAD_CHUNK_SIZE = PIECE  # its own 10 MB would be lost with a killed process
    for attempt in itertools.count(1):
        with _Counted(path, file.size, report) as target:
            begun = target.tell()
            try:
                http_get(
                    url, cast(Any, target), resume_size=begun, expected_size=file.size,
                    headers={**headers, "Accept-Encoding": "identity"}, displayed_filename=file.name,
                )  # fmt: skip
                return
            except httpx2.TransportError:
                if attempt >= ATTEMPTS and target.tell() == begun:
                    raise
        time.sleep(PAUSE_SECONDS)


def is_intact(path: Path, file: RemoteFile) -> bool:
    """Whether `path` is the whole published file."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256:
        return digest(path, hashlib.sha256()) == file.sha256
    git = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    return not file.git_sha1 or digest(path, git) == file.git_sha1


def digest(path: Path, hashing: Any) -> str:
    """The hash of a file's content, added to what `hashing` holds."""
    with path.open("rb") as content:
        while data := content.read(CHUNK):
            hashing.update(data)
    return str(hashing.hexdigest())


def weights_header(url: str, headers: Mapping[str, str]) -> bytes:
    """The first bytes of a file of safetensors, which describe its tensors.

    Raises ValueError if they are not such, and what httpx2 and the hub raise.
    """
    for attempt in itertools.count(1):
        try:
            return _header(url, headers)
        except httpx2.TransportError:
            if attempt >= ATTEMPTS:
                raise
        time.sleep(PAUSE_SECONDS)
    raise AssertionError


def _header(url: str, headers: Mapping[str, str]) -> bytes:
    found = bytearray()
    with get_session().stream("GET", url, headers=dict(headers), timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
        hf_raise_for_status(answer)
        for piece in answer.iter_bytes():
            found += piece
            length = int.from_bytes(found[:8], "little") if len(found) >= 8 else LONGEST_HEADER
            if length > LONGEST_HEADER:
                break
            if len(found) >= 8 + length:
                return bytes(found[: 8 + length])
    raise ValueError("its weights do not begin with the header of safetensors")
