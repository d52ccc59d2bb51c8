"""Models downloaded and converted by a process of the engine, and the reports on them."""

import shlex
from collections.abc import Iterator

from engine.contract.bounds import Made
from engine.contract.model_reports import ConvertedReport, FetchedReport
from engine.contract.presets import preset
from engine.contract.requests import FetchRequest, GgufRequest
from engine.contract.texts import Lang, say
from sft_tui.preflight import ask_engine
from sft_tui.preflight.fix import as_path
from sft_tui.text import safe, size

REASONS = ("code", "weights", "other")  # for which files of a repository are left out


def fetch(request: FetchRequest, progress: ask_engine.Progress = ask_engine.nothing) -> FetchedReport:
    """Downloads a model, or continues to; raises InputError."""
    return _asked(request, request.id, FetchedReport, progress)


def convert(request: GgufRequest, progress: ask_engine.Progress = ask_engine.nothing) -> ConvertedReport:
    """Converts a GGUF file to a folder; raises InputError."""
    return _asked(request, request.path, ConvertedReport, progress)


def _asked(request: FetchRequest | GgufRequest, what: str, kind: type[Made], progress: ask_engine.Progress) -> Made:
    try:
        return ask_engine.ask(request, kind, progress)
    except ask_engine.InspectorDied as died:
        raise died.error(preset("sft-small").config, what) from None


def fetched_lines(found: FetchedReport, lang: Lang) -> Iterator[str]:
    """The report on a download: what is there, from where, and what was left out."""
    shown = {"id": safe(found.id), "folder": safe(found.folder), "revision": safe(found.revision[:12])}
    counts = {"files": found.files, "size": size(found.bytes)}
    yield say("model.existed" if found.existed else "model.fetched", lang, **shown, **counts)
    left_out = [
        say(f"model.left_out.{reason}", lang, count=found.left_out[reason])
        for reason in REASONS
        if found.left_out.get(reason)
    ]
    if left_out:
        yield say("model.left_out", lang, what=say("list.separator", lang).join(left_out))
    if found.licence:
        yield say("model.licence", lang, licence=safe(found.licence))
    yield say("model.next", lang, command=safe(use_command(found.folder), 500))


def converted_lines(found: ConvertedReport, lang: Lang) -> Iterator[str]:
    """The report on a conversion: what it is now, what ends its replies, and what had been lost."""
    shown = {"name": safe(found.name), "folder": safe(found.folder), "architecture": safe(found.architecture)}
    counts = {"parameters": found.parameters, "dtype": found.dtype, "size": size(found.bytes)}
    yield say("model.converted", lang, **shown, **counts)
    stops = say("list.separator", lang).join(safe(stop) for stop in found.stops) or "-"
    yield say("model.tokenizer", lang, tokens=found.vocabulary, stops=stops)
    yield say("model.template" if found.template else "model.no_template", lang)
    if found.quantized:
        yield say("model.lossy", lang, kinds=", ".join(map(safe, found.quantized)))
    for notice in found.notices:
        yield safe(notice.text(lang))
    if found.licence:
        yield say("model.licence", lang, licence=safe(found.licence))
    yield say("model.next", lang, command=safe(use_command(found.folder), 500))


def use_command(folder: str) -> str:
    """The command that checks a run with the model in a folder."""
    return shlex.join(["sft-tui", "check", "chat", "--pretrained_model", as_path(folder)])
