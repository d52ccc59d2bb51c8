"""What is made of foreign models on request: a folder of one that was downloaded or converted."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.contract.model_reports import ConvertedReport, FetchedReport
from engine.contract.requests import FetchRequest, GgufRequest
from engine.inspecting.answer_lines import paced_files, repeat
from engine.inspecting.limits import allow_memory


def fetched(request: FetchRequest) -> FetchedReport:
    """The report on a model that is downloaded; raises InputError."""
    from engine.obtaining.fetching import fetch  # huggingface_hub takes half a second

    with _heard(request.id):
        return fetch(request, paced_files())


def converted(request: GgufRequest) -> ConvertedReport:
    """The report on a model that is converted from GGUF; raises InputError."""
    from engine.obtaining.gguf_model import convert  # which needs torch

    with _heard(request.path):
        return convert(request, allow_memory, paced_files())


@contextmanager
def _heard(doing: str) -> Iterator[None]:
    """Reports that the work continues, also while a hub or a library is silent for long."""
    over = threading.Event()
    thread = threading.Thread(target=repeat, args=(doing, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
