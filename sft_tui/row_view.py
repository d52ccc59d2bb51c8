"""One row of a data file as the model sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.contract.bounds import as_json
from engine.contract.config import RunConfig
from engine.contract.config import to_json as settings_json
from engine.contract.facts import PieceFacts, RowFacts
from engine.contract.reasons import reason_phrase
from engine.contract.requests import RowRequest
from engine.contract.texts import Lang, say
from sft_tui import chat_row_view
from sft_tui.chat_row_view import Line
from sft_tui.preflight.ask_engine import Inspector, InspectorDied
from sft_tui.text import safe


def inspect(config: RunConfig, row: int) -> RowFacts:
    """A row of the training file as the model sees it; raises InputError."""
    with Inspector() as inspector:
        return ask(inspector, config, "train_file", row)


def ask(inspector: Inspector, config: RunConfig, setting: str, row: int) -> RowFacts:
    """A row of the file of a setting, by a process that answers one question after another; raises InputError."""
    try:
        return inspector.ask(RowRequest(settings_json(config), setting, row), RowFacts)
    except InspectorDied as died:
        raise died.error(config, str(getattr(config, setting))) from None


def to_json(found: RowFacts) -> dict[str, Any]:
    """The row as plain values; a conversation has a prompt and a response for each of its answers."""
    about = found.tokenizer
    special = {"pad": about.pad, "eos": about.eos, "unk": about.unk}
    pairs = [as_json(pair) for pair in found.pairs]
    parts: dict[str, Any] = {"answers": pairs, "refused": found.refused}
    if found.chat is not None:
        parts = {"conversation": chat_row_view.to_json(found.chat)}
    elif found.form == "pairs" and pairs:
        (parts,) = pairs
    return {"tokens": about.tokens, "special": special, "special_tokens": about.named, "rows": found.rows, **parts}


def lines(found: RowFacts, file: Path, row: int, columns: int, lang: Lang) -> Iterator[Line]:
    """The row as lines; the tokens of a conversation as lines of that width."""
    yield Line(say("row.head", lang, row=row, path=safe(str(file)), rows=found.rows))
    if found.refused:
        yield Line(say("row.refused", lang, why=safe(reason_phrase(found.refused).text(lang), 300)))
    if found.chat is not None:
        yield from chat_row_view.lines(found.chat, columns, lang)
    yield from map(Line, _pairs(found, lang))


def _pairs(found: RowFacts, lang: Lang) -> Iterator[str]:
    """Each part with its counts, its text, the tokens that are kept, and those that are cut."""
    for number, pair in enumerate(found.pairs, 1):
        if found.form == "messages":
            yield ""
            yield say("row.answer", lang, number=number, answers=len(found.pairs))
        for part, about in (("prompt", pair.prompt), ("response", pair.response)):
            yield ""
            yield from _part(part, about, lang)


def _part(part: str, about: PieceFacts, lang: Lang) -> Iterator[str]:
    counts = {"count": about.count, "kept": about.kept, "cut": about.count - about.kept, "unknown": about.unknown}
    yield say("row.part", lang, part=say(f"row.{part}", lang), **counts)
    if about.turns_left_out:
        yield f"  {say('row.turns', lang, count=about.turns_left_out)} {safe(about.left_out)}"
    yield f"  {say('row.null', lang) if about.text is None else safe(about.text)}"
    pieces = [f"{safe(piece)}={number}" for piece, number in zip(about.pieces, about.ids, strict=False)]
    # The end token is kept when a row is cut.
    shown = pieces if about.kept == about.count else [*pieces[: about.kept - 1], *pieces[-1:]]
    yield f"  {' '.join(shown)}"
    if about.kept < about.count:
        yield f"  {say('row.cut', lang)} {' '.join(pieces[about.kept - 1 : -1])}"
