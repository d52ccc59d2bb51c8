"""Models on the Hugging Face Hub, or on a mirror of it (`HF_ENDPOINT`)."""

from collections.abc import Mapping

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers

from engine.contract.hub_names import Source
from engine.contract.messages import InputError
from engine.contract.model_reports import LONGEST_LICENCE
from engine.obtaining.repository import METADATA_SECONDS, Listing, RemoteFile

PAGES = {"dataset": "datasets/", "space": "spaces/"}


class HuggingFace:
    """A model there; an empty `revision` is its main branch."""

    source: Source = "huggingface"

    def __init__(self, id: str, revision: str = "", endpoint: str = "") -> None:
        self.id, self.revision = id, revision
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._api = HfApi(endpoint=self.endpoint)

    def listing(self) -> Listing:
        """Its files; raises InputError if it is not a model, and what huggingface_hub raises."""
        try:
            info = self._api.model_info(
                self.id, revision=self.revision or None, files_metadata=True, timeout=METADATA_SECONDS
            )
        except RepositoryNotFoundError:
            self._require_model()
            raise
        card = info.card_data
        licence = (card.get("license_name") or card.get("license") or "") if card else ""
        return Listing(
            str(info.sha or ""), tuple(map(_file, info.siblings or ())), str(licence)[:LONGEST_LICENCE], _base(info)
        )

    def url(self, listing: Listing, file: RemoteFile) -> str:
        """Where a file is."""
        return hf_hub_url(self.id, file.name, revision=listing.revision, endpoint=self.endpoint)

    def headers(self) -> Mapping[str, str]:
        """With the token from HF_TOKEN, or that of `hf auth login`."""
        return {name: str(value) for name, value in build_hf_headers().items()}

    def _require_model(self) -> None:
        """Raises InputError if the name is that of a dataset or a space."""
        for kind in ("dataset", "space"):
            try:
                self._api.repo_info(self.id, repo_type=kind, timeout=METADATA_SECONDS)
            except HfHubHTTPError:
                continue
            page = f"{self.endpoint}/{PAGES[kind]}{self.id}"
            raise InputError(f"hub_is_{kind}", id=self.id, page=page)


def _file(sibling: RepoSibling) -> RemoteFile:
    lfs = sibling.lfs
    size = (lfs.size if lfs else sibling.size) or 0
    return RemoteFile(sibling.rfilename, size, lfs.sha256 if lfs else "", "" if lfs else sibling.blob_id or "")


def _base(info: ModelInfo) -> str:
    """The model that this one was made from."""
    said = info.card_data.get("base_model") if info.card_data else None
    first = said[0] if isinstance(said, list) and said else said
    return first if isinstance(first, str) else ""
