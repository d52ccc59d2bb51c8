"""One row of a data file as the model sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.contract.bounds import as_json
from engine.contract.config import RunConfig
from engine.contract.config import to_json as settings_json
from engine.contract.facts import RowFacts
from engine.contract.requests import RowRequest
from engine.contract.texts import Lang, say
from sft_tui.preflight import ask_engine
from sft_tui.text import safe


def inspect(config: RunConfig, row: int) -> RowFacts:
    """Tokens of the prompt and response of a row of the training file; raises InputError."""
    try:
        return ask_engine.ask(RowRequest(settings_json(config), "train_file", row), RowFacts)
    except ask_engine.InspectorDied as died:
        raise died.error(config, config.train_file) from None


def to_json(found: RowFacts) -> dict[str, Any]:
    """The row as plain values."""
    about = found.tokenizer
    special = {"pad": about.pad, "eos": about.eos, "unk": about.unk}
    parts = {"prompt": as_json(found.prompt), "response": as_json(found.response)}
    return {"tokens": about.tokens, "special": special, "special_tokens": about.named, "rows": found.rows, **parts}


def lines(found: RowFacts, file: Path, row: int, lang: Lang) -> Iterator[str]:
    """The row as lines: each part with its counts, its text, the tokens that are kept, and those that are cut."""
    yield say("row.head", lang, row=row, path=safe(str(file)), rows=found.rows)
    for part, about in (("prompt", found.prompt), ("response", found.response)):
        yield ""
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
