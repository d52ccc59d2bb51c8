"""Hashes of data files, and the notes that save hashing a large one again."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.data import fingerprints


def test_a_large_file_is_hashed_again_after_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "REMEMBERED_BYTES", 10)
    path, root = tmp_path / "large.parquet", tmp_path / "store"
    real, hashed = fingerprints.file_sha256, list[Path]()

    def counted(file: Path, progress: Any) -> str:
        hashed.append(file)
        return real(file, progress)

    monkeypatch.setattr(fingerprints, "file_sha256", counted)
    path.write_bytes(b"a" * 100)
    first = [fingerprints.fingerprint(path, root) for _ in range(3)]
    assert (set(first), hashed) == ({real(path)}, [path])
    status = path.stat()
    path.write_bytes(b"b" * 100)  # as long as before, and with its times set back
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprints.fingerprint(path, root) == real(path) != first[0]


def test_hashing_a_large_file_reports_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "REMEMBERED_BYTES", 10)
    monkeypatch.setattr(fingerprints, "HASHED_AT_ONCE", 1_000_000)
    path, reported = tmp_path / "large.parquet", list[tuple[int, int]]()
    path.write_bytes(b"a" * 2_500_000)
    fingerprints.fingerprint(path, tmp_path / "store", lambda done, total: reported.append((done, total)))
    assert reported == [(1, 2), (2, 2), (2, 2)]


def test_a_damaged_cached_hash_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "REMEMBERED_BYTES", 10)
    path, root = tmp_path / "large.parquet", tmp_path / "store"
    path.write_bytes(b"a" * 100)
    right = fingerprints.fingerprint(path, root)
    (note,) = root.iterdir()
    for damage in ("", "[]", "{}", '{"status": null, "sha256": "0"}'):
        note.write_text(damage)
        assert fingerprints.fingerprint(path, root) == right
