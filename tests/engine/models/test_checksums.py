"""What vouches for a model's files, and that a flipped bit is seen."""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.contract.messages import InputError
from engine.models import checksums


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A state dict as torch writes it."""
    path = tmp_path / "model" / "weights.bin"
    path.parent.mkdir()
    torch.save({"a": torch.arange(1000.0)}, path)
    return path


@pytest.fixture
def without_checksums() -> Iterator[None]:
    """Torch writes archives without checksums."""
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(True)


def verified(path: Path) -> tuple[str, int]:
    """What vouches for the file, and how many bytes were read for that."""
    read = [0]
    return checksums.verify([path], path.parent.parent / "store", lambda done, _total: read.append(done)), read[-1]


def flip(path: Path) -> None:
    """Another bit in a number, which torch loads silently."""
    with zipfile.ZipFile(path) as archive:
        (part,) = (part for part in archive.infolist() if part.filename.endswith("data/0"))
    data = bytearray(path.read_bytes())
    data[part.header_offset + 500] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["a"].shape == (1000,)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_checksums_inside_a_file_find_a_flipped_bit(weights: Path) -> None:
    kind, read = verified(weights)
    assert kind == "crc32"
    assert read > 4000
    flip(weights)
    with pytest.raises(InputError, match="the checksum of weights/data/0"):
        verified(weights)


@pytest.mark.usefixtures("without_checksums")
def test_an_archive_without_checksums_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "model" / "weights.bin"
    path.parent.mkdir()
    torch.save({"a": torch.arange(10.0)}, path)
    assert verified(path) == ("crc32", 0)


@pytest.mark.parametrize("listing", ["weights.bin.sha256", "SHA256SUMS"])
def test_a_hash_next_to_the_file_is_checked(weights: Path, listing: str) -> None:
    other = f"{'0' * 64}  other.bin\n"
    (weights.parent / listing).write_text(f"{other}{digest(weights)} *weights.bin\n")
    assert verified(weights) == ("sha256", weights.stat().st_size)
    flip(weights)
    with pytest.raises(InputError) as refused:
        verified(weights)
    assert refused.value.message.code == "model_hash"
    assert listing in refused.value.message.what()


def test_a_hub_cache_file_is_checked_by_its_name(tmp_path: Path, weights: Path) -> None:
    blob = tmp_path / "blobs" / digest(weights)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    assert verified(weights)[0] == "sha256"
    flip(blob)
    with pytest.raises(InputError, match="SHA-256"):
        verified(weights)


def test_a_download_record_counts_until_the_file_changes(weights: Path) -> None:
    record = weights.parent / ".cache/huggingface/download/weights.bin.metadata"
    record.parent.mkdir(parents=True)
    record.write_text(f"{'c' * 40}\n{digest(weights)}\n{weights.stat().st_mtime + 0.5}\n")
    assert verified(weights)[0] == "sha256"
    before = weights.stat()
    flip(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns - 1_000_000_000))
    with pytest.raises(InputError, match="SHA-256"):
        verified(weights)
    torch.save({"a": torch.zeros(3)}, weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 5_000_000_000))
    assert verified(weights)[0] == "crc32"


def test_a_verified_file_is_read_once(weights: Path) -> None:
    assert verified(weights)[1] > 0
    assert verified(weights)[1] == 0
    os.utime(weights)
    assert verified(weights)[1] > 0


def test_checksums_work_in_a_read_only_folder(weights: Path) -> None:
    assert checksums.verify([weights], Path("/dev/null/store"), lambda _done, _total: None) == "crc32"


def test_bare_safetensors_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(100))
    assert checksums.verify([path], tmp_path / "store", lambda _done, _total: None) == ""
    assert not (tmp_path / "store").exists()


def test_an_unreadable_checksum_list_is_ignored(weights: Path) -> None:
    (weights.parent / "SHA256SUMS").write_bytes(b"\xff\x00" * 1000)
    os.mkfifo(weights.with_name("weights.bin.sha256"))
    assert verified(weights)[0] == "crc32"
