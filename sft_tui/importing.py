"""Data of one's own, brought in by a process of the engine, and what is told of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.contract.config import override
from engine.contract.messages import InputError, Lang, reasons_in
from engine.contract.presets import preset
from sft_tui.locale import say
from sft_tui.preflight import probe
from sft_tui.text import cut, safe

COLUMNS = 100


def bring_in(
    files: list[str], progress: probe.Progress = probe.nothing, task: str = "import", **how: Any
) -> dict[str, Any]:
    """Imports files, or the demo's rows or texts (`task`), and what came of it; raises InputError."""
    return _asked(task, progress, files, **how)


def train_tokenizer(
    files: list[str], output: str, vocabulary: int, progress: probe.Progress = probe.nothing, **columns: str
) -> dict[str, Any]:
    """Trains a tokenizer on Parquet files: {tokens, texts, output}; raises InputError."""
    return _asked("tokenizer", progress, files, output=output, vocabulary=vocabulary, columns=columns)


def _asked(
    task: str, progress: probe.Progress, files: list[str], columns: Mapping[str, str] | None = None, **how: Any
) -> dict[str, Any]:
    config, _ = override(preset("sft-small").config, columns or {})
    try:
        found = probe.ask(task, config, progress, files=files, **how)
    except probe.ProbeDied as died:
        raise InputError("reader_died", path=died.doing or ", ".join(files), why=died.why) from None
    if "error" in found:
        code, args = found["error"]["code"], found["error"]["args"]
        raise InputError(code, **args)
    return found


def lines(found: Mapping[str, Any], lang: Lang) -> Iterator[str]:
    """What was read, a preview, what was refused and why, and what was written."""
    for path, kind in found["formats"].items():
        encoding = found["encodings"].get(path, "-")
        yield say("import_read", lang, path=safe(path), kind=kind, encoding=encoding)
    shapes = ", ".join(f"{safe(shape, 60)} {count:,}" for shape, count in found["shapes"].items())
    yield say("import_counts", lang, records=found["records"], rows=found["rows"], shapes=shapes)
    for prompt, response in found["preview"]:
        yield cut(f"  {safe(prompt)}", COLUMNS)
        yield cut(f"    → {safe(response)}", COLUMNS)
    for why, count in sorted(found["refused"].items()):
        places = ", ".join(safe(place, 80) for place in found["refused_at"][why])
        yield say("import_refused", lang, count=count, why=safe(reasons_in(why, lang)), places=places)
    if found["duplicates"]:
        yield say("import_duplicates", lang, count=found["duplicates"])
    for part in ("train", "valid"):
        if found[part]:
            yield say("import_written", lang, rows=found[f"{part}_rows"], path=safe(found[part]))
    if not found["train"]:
        yield say("import_dry", lang)
