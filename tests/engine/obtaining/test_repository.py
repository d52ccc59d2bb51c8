"""The files of a repository."""

from engine.obtaining.repository import Listing, RemoteFile


def test_a_file_is_found_by_its_whole_name() -> None:
    found = Listing("main", (RemoteFile("a/config.json", 1), RemoteFile("config.json", 2)))
    assert found.file("config.json") == RemoteFile("config.json", 2)
    assert found.file("tokenizer.json") is None


def test_the_strongest_hash_counts() -> None:
    assert RemoteFile("x", 1, sha256="a" * 64, git_sha1="b" * 40).hash == "a" * 64
    assert RemoteFile("x", 1, git_sha1="b" * 40).hash == "b" * 40
