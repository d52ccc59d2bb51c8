"""One row of a data file as the model sees it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.contract.bounds import read_error
from engine.contract.config import RunConfig
from engine.contract.texts import Lang, say
from sft_tui.preflight import ask_engine
from sft_tui.text import safe


def inspect(config: RunConfig, row: int) -> dict[str, Any]:
    """Tokens of the prompt and response of a row of the training file; raises InputError."""
    try:
        found = ask_engine.ask("row", config, setting="train_file", row=row)
    except ask_engine.ProbeDied as died:
        raise died.error(config, config.train_file) from None
    if "error" in found:
        raise read_error(found["error"])
    return found


def lines(found: Mapping[str, Any], file: Path, row: int, lang: Lang) -> Iterator[str]:
    """The row as lines: each part with its counts, its text, the tokens that are kept, and those that are cut."""
    yield say("row.head", lang, row=row, path=safe(str(file)), rows=found["rows"])
    for part in ("prompt", "response"):
        about = found[part]
        count, kept = len(about["ids"]), about["kept"]
        yield ""
        counts = {"count": count, "kept": kept, "cut": count - kept, "unknown": about["unknown"]}
        yield say("row.part", lang, part=say(f"row.{part}", lang), **counts)
        if about.get("turns_left_out"):
            yield f"  {say('row.turns', lang, count=about['turns_left_out'])} {safe(about['left_out'])}"
        yield f"  {say('row.null', lang) if about['text'] is None else safe(about['text'])}"
        pieces = [f"{safe(piece)}={number}" for piece, number in zip(about["pieces"], about["ids"], strict=True)]
        # The end token is kept when a row is cut.
        shown = pieces if kept == count else [*pieces[: kept - 1], *pieces[-1:]]
        yield f"  {' '.join(shown)}"
        if kept < count:
            yield f"  {say('row.cut', lang)} {' '.join(pieces[kept - 1 : -1])}"
