"""Checks that a model's files are the published ones, by hashes that came with them and checksums within them.

Loading does not show it: torch does not check the checksums of its own archives and safetensors has none, so that
a flipped bit becomes a weight. A file found correct is remembered by size and time, so a model is read whole only once.
"""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.contract.durable import read_json, write_json
from engine.contract.facts import Verified
from engine.contract.messages import InputError
from engine.contract.untrusted import reading_untrusted

CHUNK = 4 << 20  # bytes
LONGEST_LISTING = 1 << 20  # characters in a file of hashes
RECORD = "verified.json"
SHA256 = re.compile(r"[0-9a-f]{64}")
CLOCK_SLACK = 1.0  # seconds by which a file may be newer than the record written right after it
Report = Callable[[int, int], None]  # bytes done, bytes in total


def verify(paths: Sequence[Path], folder: Path, report: Report) -> Verified:
    """What vouches for these files ("sha256", "crc32", or "" if nothing does); raises InputError.

    Files found correct are recorded in `folder`, if it is writable.
    """
    known = {path: known_sha256(path) for path in paths}
    stamps = {str(path.resolve()): [*_stamp(path), *(known[path] or ())] for path in paths}
    record = read_json(folder / RECORD)
    total, done = sum(path.stat().st_size for path in paths), 0
    kinds = set[Verified]()
    for path, (place, stamp) in zip(paths, stamps.items(), strict=True):
        hash_and_source = known[path]
        kinds.add("sha256" if hash_and_source else "crc32" if zipfile.is_zipfile(path) else "")
        if record.get(place) != stamp:
            read = _hashed(path, *hash_and_source) if hash_and_source else _checksums(path)
            for count in read:
                done += count
                report(done, total)
    if kinds != {""} and any(record.get(place) != stamp for place, stamp in stamps.items()):
        with contextlib.suppress(OSError):  # the check must work in folders that are not writable
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
    """Reads every part of a torch archive; torch can also write one without checksums."""
    if not zipfile.is_zipfile(path):
        return
    with reading_untrusted("model_bad", path), zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if part.CRC]
        if sum(part.compress_size for part in parts) > path.stat().st_size:
            raise zipfile.BadZipFile("its parts overlap")  # it would be read forever
        for part in parts:
            if part.compress_type == zipfile.ZIP_STORED:  # as torch writes them; compressed ones may unpack to any size
                yield from _checked(archive, part, path)


def _checked(archive: zipfile.ZipFile, part: zipfile.ZipInfo, path: Path) -> Iterator[int]:
    try:
        with archive.open(part) as file:
            while data := file.read(CHUNK):
                yield len(data)
    except zipfile.BadZipFile:
        raise InputError("model_checksum", path=str(path), part=part.filename) from None


def known_sha256(path: Path) -> tuple[str, str] | None:
    """The hash that a file should have and the source of that hash, if there is one.

    The sources are a file of sha256sum next to it, and what huggingface_hub keeps of a download: in its cache the file
    is named by its hash; for a folder of one's own there is a record under `.cache/huggingface`.
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
    """Hashes and the names next to them, as sha256sum writes them."""
    for line in _text(listing).splitlines():
        digest, _, name = line.strip().partition(" ")
        if SHA256.fullmatch(digest.lower()):
            yield digest.lower(), Path(name.strip().removeprefix("*")).name


def _downloaded(path: Path) -> tuple[str, str] | None:
    """The hash of a download, unless the file was written since: huggingface_hub treats it as another file then."""
    record = path.parent / ".cache/huggingface/download" / f"{path.name}.metadata"
    lines = _text(record).split()
    if len(lines) < 3 or not SHA256.fullmatch(lines[1]):  # for small files this is another kind of hash
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
