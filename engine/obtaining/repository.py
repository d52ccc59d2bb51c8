"""What every hub offers: the files of a model at one commit, and where each of them is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.contract.hub_names import Source

METADATA_SECONDS = 20.0  # for an answer that is not a file
SHA256, GIT_SHA1 = re.compile(r"([0-9a-f]{64})?"), re.compile(r"([0-9a-f]{40})?")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository, with the hash it is published under: SHA-256, or the one that Git gives a small file.

    Raises TypeError for what no hub says of a file.
    """

    name: str  # with its folders
    size: int  # bytes
    sha256: str = ""
    git_sha1: str = ""

    def __post_init__(self) -> None:
        right = isinstance(self.name, str) and type(self.size) is int and self.size >= 0
        if not (right and SHA256.fullmatch(self.sha256) and GIT_SHA1.fullmatch(self.git_sha1)):
            raise TypeError("not a file of a hub")

    @property
    def hash(self) -> str:
        """The hash that it has; empty if the hub does not publish any."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class Listing:
    """The files of a model at a commit."""

    revision: str
    files: tuple[RemoteFile, ...]
    licence: str = ""
    base: str = ""  # the model that it was made from, if its page says

    def file(self, name: str) -> RemoteFile | None:
        """The file of a name."""
        return next((file for file in self.files if file.name == name), None)


class Repository(Protocol):
    """A model on a hub."""

    id: str
    source: Source
    endpoint: str

    def listing(self) -> Listing:
        """Its files; raises InputError."""
        ...

    def url(self, listing: Listing, file: RemoteFile) -> str:
        """Where a file is."""
        ...

    def headers(self) -> Mapping[str, str]:
        """What a request for a file is sent with."""
        ...
