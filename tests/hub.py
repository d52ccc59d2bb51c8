"""A hub on the loopback: the few answers of the Hugging Face Hub and of ModelScope that a download asks for."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of_the_tests"
MUCH = 64 << 20  # bytes
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], fill: bytes = b"\x3f") -> bytes:
    """A file of safetensors: by name a tensor's kind, shape and bytes."""
    header, at = {}, 0
    for name, (kind, shape, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + fill * at


@dataclass
class Repo:
    """A repository: its files by name, and how it is protected."""

    files: dict[str, bytes]
    kind: str = "models"
    gated: bool = False
    private: bool = False
    card: dict[str, Any] = field(default_factory=dict)
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main", "master")

    def is_large(self, name: str) -> bool:
        """Whether a file is kept by its SHA-256, as large and binary ones are."""
        return name.endswith((".safetensors", ".bin", ".gguf", ".model"))


@dataclass
class Hub:
    """What the hub has, what it was asked for, and how it misbehaves."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range
    secrets: list[str] = field(default_factory=list)  # Authorization and Cookie of each request
    cuts: dict[str, list[int]] = field(default_factory=dict)  # bytes of a file after which connections break, in turn
    damaged: set[str] = field(default_factory=set)  # files whose last byte arrives changed
    stalls: set[str] = field(default_factory=set)  # files of which the second half never arrives
    status: int = 0  # of every answer
    answer: object = None  # to every question about a model, in place of the right one
    ignores_range: bool = False
    elsewhere: str = ""  # the address of another server, to which large files are redirected
    endless: set[str] = field(default_factory=set)  # files whose last byte is followed by further ones
    unhashed: bool = False  # its listings are without hashes
    prefix: str = ""  # of all paths: a mirror

    def paths(self, part: str) -> list[str]:
        """The paths asked for that contain a text."""
        return [path for path, _ in self.asked if part in path]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves the hub on a free port of the loopback."""

    class Bound(_Answers):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}{hub.prefix}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    of: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Prints nothing."""

    def do_GET(self) -> None:
        """Answers a request."""
        hub, url = self.of, urlsplit(self.path)
        path = unquote(url.path)
        hub.asked.append((self.path, self.headers.get("Range", "")))
        hub.secrets.append(self.headers.get("Authorization", "") + self.headers.get("Cookie", ""))
        if hub.status:
            return self._say(hub.status)
        if not path.startswith(hub.prefix):
            return self._say(404)
        path, query = path.removeprefix(hub.prefix), parse_qs(url.query)
        if found := re.fullmatch(r"/cdn/(.+)/([^/]+)", path):
            return self._send(hub.repos[found[1]].files[found[2]], found[2])
        if found := re.fullmatch(r"/api/(models|datasets|spaces)/(.+?)(?:/revision/(.+))?", path):
            return self._info(found[1], found[2], found[3] or "main")
        if found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            return self._file(found[1], found[2], found[3])
        if found := re.fullmatch(r"/api/v1/models/(.+?)/repo/files", path):
            return self._modelscope_listing(found[1], query["Revision"][0])
        if found := re.fullmatch(r"/api/v1/models/(.+?)/repo", path):
            return self._file(found[1], query["Revision"][0], query["FilePath"][0])
        return self._say(404)

    def _repo(self, id: str, kind: str = "models") -> Repo | None:
        repo = self.of.repos.get(id)
        if repo is None or repo.kind != kind:
            self._say(401 if not self._has_token() else 404, "RepoNotFound")
            return None
        if repo.private and not self._has_token():
            self._say(401, "RepoNotFound")
            return None
        return repo

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _info(self, kind: str, id: str, revision: str) -> None:
        repo = self._repo(id, kind)
        if repo is None:
            return
        if revision not in (*repo.revisions, repo.commit):
            return self._say(404, "RevisionNotFound")
        siblings = [self._sibling(repo, name, data) for name, data in repo.files.items()]
        said = {"id": id, "sha": repo.commit, "siblings": siblings, "cardData": repo.card, "private": repo.private,
                "gated": "manual" if repo.gated else False, "tags": [], "downloads": 0, "likes": 0}  # fmt: skip
        self._say_json(said)

    def _sibling(self, repo: Repo, name: str, data: bytes) -> dict[str, Any]:
        git = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
        found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
        if self.of.unhashed:
            del found["blobId"]
        elif repo.is_large(name):
            found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return found

    def _modelscope_listing(self, id: str, revision: str) -> None:
        repo = self._repo(id)
        if repo is None:
            return
        known = revision in (*repo.revisions, repo.commit)
        files = [{"Path": name, "Name": name, "Size": len(data), "Type": "blob", "Revision": repo.commit,
                  "CommittedDate": 1700000000, "Sha256": "" if self.of.unhashed else hashlib.sha256(data).hexdigest()}
                 for name, data in repo.files.items()]  # fmt: skip
        self._say_json({"Code": 200, "Success": True, "Data": {"Files": files if known else []}})

    def _file(self, id: str, revision: str, name: str) -> None:
        repo = self._repo(id)
        if repo is None:
            return
        if revision not in (*repo.revisions, repo.commit):
            return self._say(404, "RevisionNotFound")
        if repo.gated and not self._has_token():
            return self._say(401, "GatedRepo")
        if name not in repo.files:
            return self._say(404, "EntryNotFound")
        if repo.is_large(name) and (self.of.elsewhere or "/api/v1/" not in self.path):
            return self._say(302, location=f"{self.of.elsewhere or self.of.prefix}/cdn/{id}/{name}")
        return self._send(repo.files[name], name)

    def _send(self, data: bytes, name: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked and not self.of.ignores_range else 0
        if name in self.of.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if name in self.of.endless:
            data += bytes(MUCH)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        end = len(data)
        if name in self.of.stalls:
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data[begin : end // 2])
                self.wfile.flush()
                self.rfile.read(1)  # until the client leaves
            return
        if self.of.cuts.get(name):
            end = self.of.cuts[name].pop(0)
            self.close_connection = True
        with contextlib.suppress(ConnectionError):  # the client has read what it wanted
            self.wfile.write(data[begin:end])

    def _say(self, status: int, code: str = "", location: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _say_json(self, said: Any) -> None:
        said = said if self.of.answer is None else self.of.answer
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
