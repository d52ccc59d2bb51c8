"""What lies here and what to do next, in words: for the screen, the picker of paths and the command."""

import os
from collections.abc import Iterator
from typing import Any

from engine.contract.bounds import as_json
from engine.contract.glances import DataGlance, ModelGlance
from engine.contract.messages import Message
from engine.contract.texts import Lang, named, say, short_count
from sft_tui.found import DataFile, Found, ModelPlace, RunHere
from sft_tui.next_steps import Step
from sft_tui.queue.lines import state_short
from sft_tui.text import cut, pad, safe, width

SHOWN = 200  # characters of a name
COLUMNS, MOST_COLUMNS = 40, 4  # of the names of columns, and how many of them
KINDS = ("data", "models", "runs", "queue")


def data_words(about: DataGlance | Message | None, lang: Lang) -> str:
    """What a file of rows is; that it is being read if nothing is known of it."""
    if about is None:
        return say("here.reading_one", lang)
    if isinstance(about, Message):
        return safe(about.what(lang), SHOWN)
    about_rows = "here.about" if not about.counted else "here.exact"
    count = say(about_rows, lang, count=about.rows)
    what = "conversations" if about.form == "messages" else "rows"
    parts = [say(f"here.{what}", lang, count=count)]
    if about.form == "pairs" or not about.shape:
        names = say("list.separator", lang).join(safe(name, COLUMNS) for name in about.columns[:MOST_COLUMNS])
        parts.append(names + ("…" if len(about.columns) > MOST_COLUMNS else ""))
    if about.script:
        parts.append(named("written", about.script, lang))
    return " · ".join(filter(None, parts))


def model_words(model: ModelPlace, lang: Lang) -> str:
    """What a model is, and whose."""
    about = model.about
    if model.kind == "gguf":
        return say("here.gguf", lang)
    if isinstance(about, Message):
        return safe(about.what(lang), SHOWN)
    parts = [say("here.reading_one", lang)] if about is None else _glance_parts(about, lang)
    if model.run:
        parts.append(say("here.best_of", lang, run=safe(model.run, SHOWN)))
    return " · ".join(parts)


def _glance_parts(about: ModelGlance, lang: Lang) -> list[str]:
    known = [short_count(about.parameters), safe(about.family)]
    if about.template:
        known.append(say("here.template", lang))
    return known


def run_words(run: RunHere, lang: Lang) -> str:
    """How far a run is."""
    percent = 100 * run.step // max(1, run.steps_total)
    state = "starting" if run.state == "running" and not run.steps_total else run.state
    return say(f"here.run.{state}", lang, percent=percent, step=run.step, total=run.steps_total)


def rows_of(found: Found, lang: Lang) -> dict[str, list[tuple[str, str]]]:
    """What lies here by kind, each with its name and what it is."""
    return {
        "data": [(safe(one.path, SHOWN), data_words(one.about, lang)) for one in found.data],
        "models": [(safe(one.path, SHOWN), model_words(one, lang)) for one in found.models],
        "runs": [(safe(one.name, SHOWN), run_words(one, lang)) for one in found.runs],
        "queue": [(state_short(found.queue, lang), "")] if found.queue is not None else [],
    }


def step_words(step: Step, found: Found, lang: Lang) -> tuple[str, str]:
    """A step as a few words, and what it does in a sentence."""
    args = _step_args(step, found, lang)
    kind = step.kind
    if kind == "demo" and (step.run is not None or found.demo.stage in ("first", "between", "second")):
        kind_key = "demo_on"
    elif kind == "model" and any(one.glance is not None for one in found.models):
        kind_key = "other_model"
    elif kind == "watch" and step.run is not None and not step.run.steps_total:
        kind_key = "watch_start"
    else:
        kind_key = kind
    return say(f"step.{kind_key}.label", lang, **args), say(f"step.{kind_key}.detail", lang, **args)


def _step_args(step: Step, found: Found, lang: Lang) -> dict[str, Any]:
    """What the words of a step may name."""
    queue = state_short(found.queue, lang) if found.queue is not None else ""
    args: dict[str, Any] = {"name": safe(os.path.basename(step.subject) or step.subject, 60), "what": queue}
    if step.run is not None:
        run = step.run
        percent = 100 * run.step // max(1, run.steps_total)
        args |= {"step": run.step, "total": run.steps_total, "percent": percent, "model": safe(run.model, SHOWN)}
    file = next((one for one in found.data if one.path == step.subject), None)
    model = next((one for one in found.models if one.path == step.subject), None)
    if isinstance(file, DataFile):
        args["what"] = data_words(file.about, lang) if file.about is not None else say("here.reading", lang)
    if isinstance(model, ModelPlace):
        args["name"] = safe(model.glance.title, 60) if model.glance is not None else args["name"]
        args["what"] = model_words(model, lang)
        args["rows"] = safe(step.files.get("train_file", ""), SHOWN)
    return args


def lines(found: Found, steps: list[Step], columns: int, lang: Lang) -> Iterator[str]:
    """Everything line by line, each within a number of columns; 0 for any length."""
    for line in _lines(found, steps, lang):
        yield cut(line, columns) if columns else line


def _lines(found: Found, steps: list[Step], lang: Lang) -> Iterator[str]:
    heads = {kind: say(f"here.{kind}_head", lang) for kind in KINDS}
    column = max(map(width, heads.values())) + 2
    every = rows_of(found, lang)
    names = min(40, max((width(name) for rows in every.values() for name, _ in rows), default=0)) + 2
    for kind, rows in every.items():
        for place, (name, words) in enumerate(rows):
            yield pad(heads[kind] if not place else "", column) + pad(cut(name, names - 2), names) + words
    if found.empty:
        yield say("here.nothing", lang)
    if found.left_out:
        yield say("here.left_out", lang, count=found.left_out)
    yield ""
    for place, step in enumerate(steps):
        label, detail = step_words(step, found, lang)
        yield f"{say('here.next_head', lang) if not place else '':<6}{place + 1} {label}: {detail}"
        yield f"        {safe(step.command, 500)}"


def to_json(found: Found, steps: list[Step]) -> dict[str, Any]:
    """What `here --json` prints."""
    return {
        "data": [_entry(one.path, one.about) | {"bytes": one.bytes} for one in found.data],
        "models": [_entry(one.path, one.about) | {"kind": one.kind, "run": one.run or None} for one in found.models],
        "runs": [as_json(one) for one in found.runs],
        "queue": len(found.queue.waiting) if found.queue is not None else 0,
        "next": [{"what": step.kind, "subject": step.subject or None, "command": step.command} for step in steps],
    }


def _entry(path: str, about: DataGlance | ModelGlance | Message | None) -> dict[str, Any]:
    """A path with what is known of it, or why it cannot be read."""
    if isinstance(about, Message):
        return {"path": path, "about": None, "error": about.what("en")}
    return {"path": path, "about": as_json(about) if about is not None else None, "error": None}
