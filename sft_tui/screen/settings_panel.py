"""The page with what a run was made of: how it differs from its preset, data, model, versions, origin, all settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.contract.config import FIELDS, setting_of, to_json
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.texts import Lang, say
from sft_tui.judging import in_words
from sft_tui.options import setting_text, unit_text
from sft_tui.screen import paged
from sft_tui.screen.ink import Line, Span, columns, fit
from sft_tui.screen.run_contents import RunView
from sft_tui.text import safe
from sft_tui.wrapping import wrap

WIDEST_NAME = 28  # columns of a setting's name
LEAST_VALUE = 12
DIGITS_SHOWN = 12  # of a hash
FILES = ("train_file", "validation_file", "test_file")


@dataclass(frozen=True)
class Entry:
    """A line of the page: a heading if it has no value, else a name with its value; `before` is the preset's value."""

    name: str
    value: str | None = None
    before: str | None = None
    role: str = ""


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """The page in a frame."""
    return paged.page(view, [(say("screen.run_settings", view.lang), "head")], lines(view, width - 4), width, height)


def lines(view: RunView, width: int) -> list[Line]:
    """The whole page in the given number of columns."""
    found = list(entries(view))
    names = max((columns([(one.name, "")]) for one in found if one.value is not None), default=0)
    label = max(0, min(names + 2, WIDEST_NAME + 2, width - LEAST_VALUE))
    shown: list[Line] = []
    for entry in found:
        if entry.value is None:
            shown += [[]] * bool(shown) + [[(entry.name, "accent")]]
        else:
            shown += _entry_lines(entry, label, width)
    return shown


def _entry_lines(entry: Entry, label: int, width: int) -> Iterator[Line]:
    """A name and its value, on as many lines as the value needs; a changed value is marked, and behind the preset's."""
    name: Line = [("! " if entry.before is not None else "  ", "warn"), (entry.name, "dim")]
    value: Span = (entry.value or "", entry.role)
    if entry.before is not None:
        value = (f"{entry.before} → {entry.value}", entry.role)
    for place, part in enumerate(wrap(value[0], max(1, width - label - 2))):
        yield [*fit(name if place == 0 else [], label + 2), (part, value[1])]


def entries(view: RunView) -> Iterator[Entry]:
    """Everything on the page, from the top down."""
    for part in (_different, _noted, _origin, _data, _model, _versions, _all_settings):
        yield from part(view)


def _heading(key: str, view: RunView, **args: object) -> Entry:
    return Entry(say(f"screen.of_run_{key}", view.lang, **args))


def _named(key: str, value: str, view: RunView, role: str = "") -> Entry:
    return Entry(say(f"screen.of_run_{key}", view.lang), value, role=role)


def _preset_config(view: RunView) -> dict[str, Any]:
    """The settings of the run's preset; {} if it no longer exists."""
    try:
        return to_json(preset(view.run.record.preset).config)
    except InputError:
        return {}


def _config(view: RunView) -> Mapping[str, Any]:
    """The settings of the newest attempt."""
    return view.run.record.config


def _different(view: RunView) -> Iterator[Entry]:
    """The settings that differ from those of the preset."""
    base, name = _preset_config(view), safe(view.run.record.preset, 60)
    yield _heading("differs", view, preset=name)
    if not base:
        yield Entry("", say("screen.of_run_no_preset", view.lang, preset=name), role="dim")
        return
    changed = [one for one in _settings(view) if _config(view)[one] != base[one]]
    for setting in changed:
        value, before = (_value(setting, one[setting], view.lang) for one in (_config(view), base))
        yield Entry(setting, value, before, "head")
    if not changed:
        yield Entry("", say("screen.of_run_nothing", view.lang), role="dim")


def _settings(view: RunView) -> list[str]:
    """The settings that the run's record has, in their order."""
    return [name for name in FIELDS if name in _config(view)]


def _value(name: str, value: Any, lang: Lang) -> str:
    return safe(setting_text(name, value, lang), 400) + unit_text(name, value, lang)


def _noted(view: RunView) -> Iterator[Entry]:
    """The user's note, tags and blind judgements."""
    note = view.facts.note
    if not (note.text or note.tags or view.facts.judged):
        return
    yield _heading("note", view)
    if note.text:
        yield Entry("", safe(note.text))
    if note.tags:
        yield _named("tags", safe("  ".join(f"#{tag}" for tag in note.tags), 800), view)
    if view.facts.judged:
        for place, line in enumerate(in_words(view.facts.judged, view.lang)):
            label = "" if place else say("screen.of_run_judged", view.lang)
            yield Entry(label, safe(line, 400))


def _origin(view: RunView) -> Iterator[Entry]:
    """Which runs it comes from, when it began, and where its files are."""
    run, facts, lang = view.run, view.facts, view.lang
    yield _heading("origin", view)
    if run.record.based_on:
        yield _named("based_on", safe(run.record.based_on, 80), view)
    if facts.began_from:
        yield _named("began_from", safe(facts.began_from, 80), view)
    if view.state.began_at:
        yield _named("began", safe(view.state.began_at[:19].replace("T", " "), 30), view)
    if view.state.attempt > 1:
        yield _named("attempts", f"{view.state.attempt:,}", view)
    yield Entry(say("screen.folder", lang), safe(str(run.run_dir.path), 400))
    yield Entry(say("screen.model_folder", lang), safe(str((run.output or run.record.output).path), 400))


def _data(view: RunView) -> Iterator[Entry]:
    """The data files with their rows, as far as the run has counted them, and the beginning of their hashes."""
    state, lang = view.state, view.lang
    yield _heading("data", view)
    rows = {"train_file": state.plan.rows if state.plan else 0}
    if state.evaluation is not None:
        rows["test_file" if view.run.record.job == "test" else "validation_file"] = state.evaluation.rows
    hashes = state.started.data if state.started else {}
    for name in FILES:
        path = safe(str(_config(view).get(name, "")), 400) or "-"
        count = f" · {say('screen.of_run_rows', lang, rows=rows[name])}" if rows.get(name) else ""
        digest = f" · sha256 {safe(hashes[name][:DIGITS_SHOWN], 20)}" if hashes.get(name) else ""
        yield Entry(name, path + count + digest)


def _model(view: RunView) -> Iterator[Entry]:
    """The model: where it came from, its kind and size, what learns, and on what it is computed."""
    state, config, lang = view.state, _config(view), view.lang
    yield _heading("model", view)
    base = safe(str(config.get("pretrained_model", "")), 400)
    yield Entry("pretrained_model", base or say("screen.of_run_random", lang))
    family = safe(str(config.get("family", "-")), 40)
    kind = safe(view.facts.model_type, 80)
    yield Entry("family", f"{family} · {kind}" if kind else family)
    if state.plan is not None and state.plan.parameters:
        share = 100 * state.plan.parameters_trained / state.plan.parameters
        counts = {"parameters": state.plan.parameters, "trained": state.plan.parameters_trained}
        yield _named("size", say("screen.of_run_parameters", lang, **counts, share=f"{share:.3g}"), view)
        yield _named("precision", safe(state.plan.precision, 40), view)
    if state.started is not None:
        device = say(
            "screen.of_run_device_is", lang, device=safe(state.started.device, 80), ranks=state.started.world_size
        )
        yield _named("device", device, view)


def _versions(view: RunView) -> Iterator[Entry]:
    """The versions of the programs that the newest attempt ran with."""
    started = view.state.started
    if started is None or not (started.versions or started.git_revision):
        return
    yield _heading("versions", view)
    for name, version in started.versions.items():
        yield Entry(safe(name, 40), safe(version, 80))
    if started.git_revision:
        yield Entry("git", safe(started.git_revision, 80))


def _all_settings(view: RunView) -> Iterator[Entry]:
    """Every setting, by group."""
    base, group = _preset_config(view), ""
    for name in _settings(view):
        if setting_of(name).group != group:
            group = setting_of(name).group
            yield Entry(say("screen.of_run_group", view.lang, group=say(f"group.{group}", view.lang)))
        value = _config(view)[name]
        yield Entry(name, _value(name, value, view.lang), role="head" if base and value != base[name] else "")
