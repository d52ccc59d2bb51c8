"""A file on its way."""

import hashlib
from pathlib import Path

import pytest

from engine.obtaining import transfer
from engine.obtaining.repository import RemoteFile
from tests.hub import Hub, Repo, safetensors, serving


def test_a_file_is_intact_by_either_hash(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object of it
    assert transfer.is_intact(path, RemoteFile("x", 6, git_sha1=git))
    assert transfer.is_intact(path, RemoteFile("x", 6, sha256=hashlib.sha256(b"hello\n").hexdigest()))
    assert not transfer.is_intact(path, RemoteFile("x", 6, git_sha1=git[::-1]))
    assert not transfer.is_intact(path, RemoteFile("x", 7, git_sha1=git))
    assert not transfer.is_intact(tmp_path / "missing", RemoteFile("x", 6))


def test_a_part_longer_than_the_file_is_not_continued(tmp_path: Path) -> None:
    with serving(Hub(repos={"me/x": Repo({"a.bin": b"abc"})})) as hub:
        (tmp_path / "part").write_bytes(b"abcdef")
        file = RemoteFile("a.bin", 3, sha256=hashlib.sha256(b"abc").hexdigest())
        transfer.download(f"{hub.url}/me/x/resolve/main/a.bin", {}, file, tmp_path / "part", lambda _: None)
    assert (tmp_path / "part").read_bytes() == b"abc"


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with serving(Hub(repos={"me/x": Repo({"a.txt": b""})})) as hub:
        url = f"{hub.url}/me/x/resolve/main/a.txt"
        transfer.download(url, {}, RemoteFile("a.txt", 0), tmp_path / "part", lambda _: None)
    assert (tmp_path / "part").read_bytes() == b""


def test_only_the_header_of_weights_is_read() -> None:
    weights = safetensors({"a": ("F32", (1000, 1000), 4_000_000)})
    with serving(Hub(repos={"me/x": Repo({"model.safetensors": weights})})) as hub:
        header = transfer.weights_header(f"{hub.url}/me/x/resolve/main/model.safetensors", {})
    assert weights.startswith(header)
    assert len(header) < 200


@pytest.mark.parametrize("data", [b"", b"short", b"\xff" * 100, (1000).to_bytes(8, "little") + b"{}"])
def test_what_does_not_begin_with_a_header_is_refused(data: bytes) -> None:
    with (
        serving(Hub(repos={"me/x": Repo({"model.safetensors": data})})) as hub,
        pytest.raises(ValueError, match="header"),
    ):
        transfer.weights_header(f"{hub.url}/me/x/resolve/main/model.safetensors", {})
