"""Whether the files of a model are the ones that were published: hashes that came with them, checksums within them.

Loading shows nothing of it: torch does not look at the checksums of its own archives and safetensors has none, so that
a flipped bit becomes a weight. What was found right is remembered by size and time: a model is read whole only once.
"""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.contract.messages import InputError
from engine.contract.rundir import read_json, write_json
from engine.contract.untrusted import reading_untrusted

CHUNK = 4 << 20  # bytes
LONGEST_LISTING = 1 << 20  # characters of a file of hashes
RECORD = "verified.json"
SHA256 = re.compile(r"[0-9a-f]{64}")
CLOCK_SLACK = 1.0  # seconds that a file may be newer than what was written of it right after
Report = Callable[[int, int], None]  # bytes done, bytes in all


def verify(paths: Sequence[Path], folder: Path, report: Report) -> str:
    """What vouches for these files ("sha256", "crc32", or "" where nothing does); raises InputError.

    What is right is remembered in `folder`, where that can be written.
    """
    known = {path: known_sha256(path) for path in paths}
    stamps = {str(path.resolve()): [*_stamp(path), *(known[path] or ())] for path in paths}
    record = read_json(folder / RECORD)
    total, done = sum(path.stat().st_size for path in paths), 0
    kinds = set()
    for path, (place, stamp) in zip(paths, stamps.items(), strict=True):
        hash_and_source = known[path]
        kinds.add("sha256" if hash_and_source else "crc32" if zipfile.is_zipfile(path) else "")
        if record.get(place) != stamp:
            read = _hashed(path, *hash_and_source) if hash_and_source else _checksums(path)
            for count in read:
                done += count
                report(done, total)
    if kinds != {""} and any(record.get(place) != stamp for place, stamp in stamps.items()):
        with contextlib.suppress(OSError):  # looking must work where nothing may be written
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / RECORD, {**record, **stamps}, durable=False)
    return min(kinds)  # the weakest counts


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _hashed(path: Path, wanted: str, source: str) -> Iterator[int]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
            yield len(data)
    if digest.hexdigest() != wanted:
        raise InputError("model_hash", path=str(path), found=digest.hexdigest(), wanted=wanted, source=source)


def _checksums(path: Path) -> Iterator[int]:
    """Reads every part of a torch archive; one that was written without checksums, which torch can, has none."""
    if not zipfile.is_zipfile(path):
        return
    with reading_untrusted("model_bad", path), zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if part.CRC]
        if sum(part.compress_size for part in parts) > path.stat().st_size:
            raise zipfile.BadZipFile("its parts overlap")  # and would be read for ever
        for part in parts:
            if part.compress_type == zipfile.ZIP_STORED:  # as torch writes them; others may unfold to any size
                yield from _checked(archive, part, path)


def _checked(archive: zipfile.ZipFile, part: zipfile.ZipInfo, path: Path) -> Iterator[int]:
    try:
        with archive.open(part) as file:
            while data := file.read(CHUNK):
                yield len(data)
    except zipfile.BadZipFile:
        raise InputError("model_checksum", path=str(path), part=part.filename) from None


def known_sha256(path: Path) -> tuple[str, str] | None:
    """The hash that a file should have and what says so, where something does.

    Asked are a file of sha256sum beside it, and what huggingface_hub keeps of a download: in its cache the file is
    named by its hash, in a folder of one's own a record lies below `.cache/huggingface`.
    """
    for listing in (path.with_name(f"{path.name}.sha256"), path.with_name("SHA256SUMS")):
        for digest, name in _listed(listing):
            if name == path.name or (not name and listing.suffix == ".sha256"):
                return digest, str(listing)
    blob = path.resolve()
    if blob.parent.name == "blobs" and SHA256.fullmatch(blob.name):
        return blob.name, str(blob)
    return _downloaded(path)


def _listed(listing: Path) -> Iterator[tuple[str, str]]:
    """Hashes and the names beside them, as sha256sum writes them."""
    for line in _text(listing).splitlines():
        digest, _, name = line.strip().partition(" ")
        if SHA256.fullmatch(digest.lower()):
            yield digest.lower(), Path(name.strip().removeprefix("*")).name


def _downloaded(path: Path) -> tuple[str, str] | None:
    """The hash of a download, unless the file was written since: then huggingface_hub takes it for another, too."""
    record = path.parent / ".cache/huggingface/download" / f"{path.name}.metadata"
    lines = _text(record).split()
    if len(lines) < 3 or not SHA256.fullmatch(lines[1]):  # small files have another hash there
        return None
    with contextlib.suppress(ValueError):
        if path.stat().st_mtime <= float(lines[2]) + CLOCK_SLACK:
            return lines[1], str(record)
    return None


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(LONGEST_LISTING)
    except OSError:
        return ""
