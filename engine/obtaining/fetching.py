"""A model downloaded from a hub into a folder: safetensors, configuration, tokenizer and template, never code."""

import time
from collections.abc import Callable
from pathlib import Path

from engine.contract.messages import InputError
from engine.contract.model_record import record_of
from engine.contract.model_reports import FetchedReport
from engine.contract.requests import FetchRequest
from engine.obtaining.choice import INDEX, Choice, chosen, require_named_parts
from engine.obtaining.failures import ENDPOINTS, reaching
from engine.obtaining.huggingface import HuggingFace
from engine.obtaining.licence import licence_of
from engine.obtaining.modelscope import ModelScope
from engine.obtaining.preview import require_trainable
from engine.obtaining.repository import Listing, RemoteFile, Repository
from engine.obtaining.staging import Staging, require_place
from engine.obtaining.transfer import download, is_intact

HUBS: dict[str, Callable[[str, str], Repository]] = {"huggingface": HuggingFace, "modelscope": ModelScope}
Progress = Callable[[str, int, int], None]  # file, bytes done of all, bytes in all


def fetch(request: FetchRequest, progress: Progress) -> FetchedReport:
    """Downloads a model, or continues to; raises InputError."""
    folder = Path(request.folder)
    if record := record_of(folder):
        return _existing(request, record)
    require_place(folder)
    repository = HUBS[request.source](request.id, request.revision)
    with reaching(repository, request.revision):
        listing = _listing(repository)
        choice = chosen(repository, listing)
        staging = Staging(folder)
        with staging.held():
            if not all(file.hash for file in choice.files):  # what was begun could be another revision's
                staging.discard()
            before = staging.received(choice.files)
            staging.require_space(choice.bytes - before)
            _Download(repository, listing, choice, staging, progress).run()
            report = FetchedReport(
                request.id, request.source, repository.endpoint, listing.revision, str(folder), len(choice.files),
                choice.bytes, max(0, choice.bytes - before), choice.left_out,
                listing.licence or licence_of(staging.path),
            )  # fmt: skip
            require_place(folder)
            staging.finish([file.name for file in choice.files], _record(request, report))
    return report


def _listing(repository: Repository) -> Listing:
    """The files of a model; raises InputError, also if the answer is not a hub's, and what `reaching` expects."""
    try:
        return repository.listing()
    except (TypeError, KeyError, AttributeError):  # of an answer that is JSON, and not a hub's
        raise InputError("hub_not_one", endpoint=repository.endpoint, variable=ENDPOINTS[repository.source]) from None


class _Download:
    """The files of one model on their way into its staging folder."""

    def __init__(
        self, repository: Repository, listing: Listing, choice: Choice, staging: Staging, progress: Progress
    ) -> None:
        self._repository, self._listing, self._choice = repository, listing, choice
        self._staging, self._progress = staging, progress
        self._done = 0

    def run(self) -> None:
        """Completes all files: the small ones first, which show whether the model can be trained at all."""
        weights = [file for file in self._choice.files if file.name.endswith(".safetensors")]
        for file in self._choice.files:
            if file not in weights:
                self._complete(file)
        if (index := self._staging.path / INDEX).is_file():
            require_named_parts(self._repository, index.read_bytes(), weights)
        try:
            require_trainable(self._repository, self._listing, self._choice, self._staging.path)
        except InputError:
            self._staging.discard()
            raise
        for file in weights:
            self._complete(file)

    def _complete(self, file: RemoteFile) -> None:
        place, part = self._staging.place(file), self._staging.part(file)
        self._report(file, 0)
        if not is_intact(place, file):
            place.unlink(missing_ok=True)
            place.parent.mkdir(exist_ok=True)
            url, headers = self._repository.url(self._listing, file), self._repository.headers()
            download(url, headers, file, part, lambda done: self._report(file, done))
            part.rename(place)
        self._done += file.size
        self._report(file, 0)

    def _report(self, file: RemoteFile, done: int) -> None:
        self._progress(file.name, self._done + done, self._choice.bytes)


def _record(request: FetchRequest, report: FetchedReport) -> dict[str, object]:
    """What a model's folder says of where it came from."""
    return {
        "id": report.id, "source": report.source, "endpoint": report.endpoint, "revision": report.revision,
        "asked": request.revision, "licence": report.licence, "left_out": report.left_out,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }  # fmt: skip


def _existing(request: FetchRequest, record: dict[str, object]) -> FetchedReport:
    """The report on a model that is there already; raises InputError if it is another one, or another revision."""
    said = {name: str(record.get(name, "")) for name in ("id", "source", "endpoint", "revision", "asked", "licence")}
    if (said["id"], said["source"]) != (request.id, request.source):
        raise InputError("model_place_taken", path=request.folder)
    if request.revision not in (said["asked"], said["revision"]):
        raise InputError(
            "model_revision", path=request.folder, had=said["revision"][:12], wanted=request.revision or "main"
        )
    files = record["files"]
    assert isinstance(files, dict)
    left_out = record.get("left_out")
    return FetchedReport(
        request.id, request.source, said["endpoint"], said["revision"], request.folder, len(files), sum(files.values()),
        0, left_out if isinstance(left_out, dict) else {}, said["licence"], existed=True,
    )  # fmt: skip
