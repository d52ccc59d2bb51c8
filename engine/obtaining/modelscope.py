"""Models on ModelScope, by its plain HTTP interface.

Its own client (modelscope 1.40: 6.3 MB with modelscope-hub, and requests, cryptography, urllib3 and setuptools) does
not more for a download than list the files with their hashes and fetch each one.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from huggingface_hub.utils import get_session, hf_raise_for_status

from engine.contract.hub_names import Source
from engine.contract.messages import InputError
from engine.obtaining.repository import METADATA_SECONDS, Listing, RemoteFile

ENDPOINT = "https://www.modelscope.cn"
DEFAULT_BRANCH = "master"
COMMIT = re.compile(r"[0-9a-f]{40}")
MOST_FILES = 3000  # of one answer, which says nothing of further ones


class ModelScope:
    """A model there; an empty `revision` is its main branch."""

    source: Source = "modelscope"

    def __init__(self, id: str, revision: str = "", endpoint: str = "") -> None:
        self.id, self.revision = id, revision
        self.endpoint = (endpoint or os.environ.get("MODELSCOPE_ENDPOINT") or ENDPOINT).rstrip("/")

    def listing(self) -> Listing:
        """Its files; raises InputError, and what httpx2 and huggingface_hub raise.

        Each file names the commit that changed it last, so the newest of them is the commit of the whole.
        """
        asked = {"Revision": self.revision or DEFAULT_BRANCH, "Recursive": "True"}
        url = f"{self._api}/repo/files?{urlencode(asked)}"
        answer = get_session().get(url, headers=dict(self.headers()), timeout=METADATA_SECONDS)
        hf_raise_for_status(answer)
        said = answer.json()
        entries = _entries(said)
        if not entries:
            raise InputError("hub_revision", id=self.id, endpoint=self.endpoint, revision=asked["Revision"])
        if len(entries) >= MOST_FILES:
            raise InputError("hub_too_many", id=self.id, count=MOST_FILES)
        newest = str(max(entries, key=lambda entry: int(entry.get("CommittedDate") or 0)).get("Revision"))
        files = tuple(_file(entry) for entry in entries if entry.get("Type", "blob") != "tree")
        return Listing(newest if COMMIT.fullmatch(newest) else asked["Revision"], files)

    def url(self, listing: Listing, file: RemoteFile) -> str:
        """Where a file is."""
        return f"{self._api}/repo?{urlencode({'Revision': listing.revision, 'FilePath': file.name})}"

    def headers(self) -> Mapping[str, str]:
        """With the token from MODELSCOPE_API_TOKEN."""
        token = os.environ.get("MODELSCOPE_API_TOKEN", "")
        named = {"user-agent": "sft-tui"}
        return {**named, "authorization": f"Bearer {token}", "cookie": f"m_session_id={token}"} if token else named

    @property
    def _api(self) -> str:
        return f"{self.endpoint}/api/v1/models/{quote(self.id)}"


def _entries(said: Any) -> list[Mapping[str, Any]]:
    """The entries of an answer; none if it is not one."""
    data = said.get("Data") if isinstance(said, dict) else None
    files = data.get("Files") if isinstance(data, dict) else data
    return [entry for entry in files if isinstance(entry, dict)] if isinstance(files, list) else []


def _file(entry: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(str(entry.get("Path") or ""), int(entry.get("Size") or 0), str(entry.get("Sha256") or "").lower())
