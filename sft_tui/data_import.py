"""The user's own data, imported by a process of the engine, and the report on it."""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from engine.contract.bounds import Made
from engine.contract.glances import Form
from engine.contract.import_report import PARTS, ColumnsReport, ImportReport, Reasons, TokenizerReport
from engine.contract.presets import preset
from engine.contract.reasons import reason_phrase
from engine.contract.requests import ColumnsRequest, ImportRequest, TokenizerRequest
from engine.contract.texts import Lang, say
from sft_tui.options import options
from sft_tui.preflight import ask_engine
from sft_tui.preflight.fix import as_path
from sft_tui.spool import is_stream, spooled
from sft_tui.text import cut, safe

COLUMNS = 100
COLUMN_SETTINGS = ("prompt_column", "response_column", "messages_column")


def import_rows(
    files: list[str],
    progress: ask_engine.Progress = ask_engine.nothing,
    what: type[ImportRequest] = ImportRequest,
    **how: Any,
) -> ImportReport:
    """Imports files, or the rows or texts of the demo (`what`), and returns the result; raises InputError."""
    with contextlib.ExitStack() as stack:
        kept = {name: spooled(name, stack) for name in files if is_stream(name)}
        shown = {path: name for name, path in kept.items()}
        paths = tuple(kept.get(name, name) for name in files)
        return _asked(what(paths, shown=shown, **how), ImportReport, progress)


def columns_to_name(files: list[str], prompt_column: str = "", response_column: str = "") -> dict[str, str]:
    """The columns of files, each with a sample value, when an import cannot tell which are prompt and response.

    Empty if that is not why the import failed; raises InputError. `columns` are those that the import was given.
    """
    request = ColumnsRequest(tuple(files), prompt_column=prompt_column, response_column=response_column)
    return _asked(request, ColumnsReport).columns


def train_tokenizer(
    files: list[str], output: str, vocabulary: int, progress: ask_engine.Progress = ask_engine.nothing, **columns: str
) -> TokenizerReport:
    """Trains a tokenizer on Parquet files; raises InputError."""
    usual = preset("sft-small").config
    named = {name: columns.get(name, getattr(usual, name)) for name in COLUMN_SETTINGS}
    request = TokenizerRequest(tuple(files), output, vocabulary, **named)
    return _asked(request, TokenizerReport, progress)


def _asked(
    request: ImportRequest | TokenizerRequest, kind: type[Made], progress: ask_engine.Progress = ask_engine.nothing
) -> Made:
    try:
        return ask_engine.ask(request, kind, progress)
    except ask_engine.InspectorDied as died:
        raise died.error(preset("sft-small").config, ", ".join(request.files) or request.task) from None


def lines(found: ImportReport, lang: Lang) -> Iterator[str]:
    """The report: what was read, a preview, what was refused and why, and what was written."""
    yield from _reasons("passed_over", found.passed_over, lang)
    for file in found.files:
        kind = ", ".join(filter(None, (file.format, file.encoding, file.compression)))
        counts = {"records": file.records, "used": file.used, "refused": file.refused}
        yield say("import.read", lang, path=safe(file.path), kind=kind, **counts)
    if found.records:
        yield from _account(found, lang)
    for row in found.preview:
        yield from _preview(row, found.form)
    if not found.train:
        yield say("import.dry", lang)
        return
    yield from _written(found, lang)
    if not found.valid:
        yield say("import.unvalidated", lang)
    yield from _next(found, lang)


def _next(found: ImportReport, lang: Lang) -> Iterator[str]:
    """The command that checks a run with the files written, for each kind of model, of which both learn either form."""
    if not found.valid:
        yield say("import.next", lang, command=safe(check_command(found, "sft-small"), 500))
        return
    kinds = (("chat", "chat"), ("sft-small", "t5"))
    for name, kind in kinds if found.form == "messages" else reversed(kinds):
        yield say(f"import.next_{kind}", lang, command=safe(check_command(found, name), 500))


def _preview(row: Sequence[str], form: Form) -> Iterator[str]:
    """A row, its first line less indented: a pair, or the turns of a conversation after their roles."""
    for number, text in enumerate(row):
        start = "  " if number == 0 else "    → " if form == "pairs" else "    "
        yield cut(f"{start}{safe(text)}", COLUMNS)


def _written(found: ImportReport, lang: Lang) -> Iterator[str]:
    """The files written with their numbers of rows, how rows were split between them, and what was left untouched."""
    for part in PARTS:
        if found.file(part):
            written = "import.written" if found.form == "pairs" else "import.written_messages"
            yield say(written, lang, rows=found.rows_of(part), path=safe(found.file(part)))
    for path in found.unfilled.values():
        yield say("import.unfilled", lang, path=safe(path))
    if found.divided:
        yield say("import.divided", lang, count=found.divided, largest=found.divided_largest)
    if found.spared:
        yield say("import.spared", lang, path=safe(found.spared))


def check_command(found: ImportReport, name: str) -> str:
    """The command that checks a run of a preset with the files written, or only the rows if none are held out."""
    if not found.valid:
        return shlex.join(["sft-tui", "data", "check", as_path(found.train)])
    usual = preset(name).config
    files = {"train_file": found.train, "validation_file": found.valid}
    named = {name: path for name, path in files.items() if path and path != getattr(usual, name)}
    return shlex.join(["sft-tui", "check", name, *options(named)])


def _account(found: ImportReport, lang: Lang) -> Iterator[str]:
    """Numbers of records and rows that add up, and the reasons for those that are missing."""
    shapes = ", ".join(f"{safe(shape, 60)} {count:,}" for shape, count in found.shapes.items())
    refused = found.records - found.used
    yield say("import.records", lang, records=found.records, used=found.used, refused=refused, shapes=shapes)
    yield from _reasons("refused", found.refused, lang)
    yield from _reasons("noticed", found.noticed, lang)
    yield say("import.rows", lang, made=found.made, repeated=found.repeated, kept=found.kept)
    if found.form == "messages":
        yield say("import.messages", lang, answers=found.answers, conversations=found.made)
    elif found.with_history:
        counts = {"made": found.made, "conversations": found.conversations, "earlier": found.with_history}
        yield say("import.turns" if found.history != 0 else "import.last_turns", lang, **counts)
    unused = dict.fromkeys(safe(name, 60) for file in found.files for name in file.unused)
    if unused:
        yield say("import.unused", lang, columns=", ".join(unused))


def _reasons(kind: str, found: Reasons, lang: Lang) -> Iterator[str]:
    """One line per reason, most frequent first."""
    counted = [(code, part) for code, entry in found.items() for part in entry.details]
    for code, part in sorted(counted, key=lambda reason: -reason[1].count):
        places = ", ".join(safe(place, 80) for place in part.places)
        why = safe(reason_phrase(f"{code}:{part.detail}").text(lang), 300)
        yield say(f"import.{kind}", lang, count=part.count, why=why, places=places)
