"""Which run began from which: derived from the records of runs by the paths and ids in them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.contract.texts import Lang, say
from sft_tui.runs import Run
from sft_tui.text import safe

MODEL, SETTINGS, TESTED = "model", "settings", "tested"  # what a run has of another, the most telling first


class Link(NamedTuple):
    """What a run has of another: its best model, its settings, or the model that it evaluates."""

    parent: str
    kind: str
    step: int = 0  # of the evaluation that was the best; 0: unknown


class Node(NamedTuple):
    """A run in a tree: its depth, and its link to the run above it; None at a root."""

    depth: int
    run: Run
    link: Link | None


def links(found: Sequence[Run]) -> dict[str, list[Link]]:
    """The links of each run to the runs that it began from, by name; those without any are left out."""
    places = _places(found)
    names = {run.name: run for run in found}
    linked: dict[str, list[Link]] = {}
    for run in found:
        ways = [*_models(run, places), *_settings(run, names)]
        if ways:
            linked[run.name] = ways
    return linked


def _places(found: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs that trained a model, by each folder where it was or is."""
    places: dict[str, list[Run]] = {}
    for run in found:
        if run.record.job != "train":
            continue
        for output in dict.fromkeys((run.record.output, run.output or run.record.output)):
            for path in (output.path, output.best):
                places.setdefault(_resolved(str(path)), []).append(run)
    return places


def _models(run: Run, places: Mapping[str, list[Run]]) -> Iterator[Link]:
    tested = run.record.job == "test"
    place = str(run.record.output.path) if tested else str(run.record.config.get("pretrained_model", ""))
    if not place:
        return
    parent = _wrote(run, places.get(_resolved(place), []))
    if parent is not None:
        yield Link(parent.name, TESTED if tested else MODEL, parent.state.best.step if parent.state.best else 0)


def _wrote(run: Run, candidates: Sequence[Run]) -> Run | None:
    """The run whose model was in the folder when another began: of those that began before it, the newest."""
    before = [one for one in candidates if one.name != run.name and _began_before(one, run)]
    return max(before, key=lambda one: one.state.began_at, default=None)


def _began_before(one: Run, other: Run) -> bool:
    return not other.state.began_at or one.state.began_at < other.state.began_at


def _settings(run: Run, names: Mapping[str, Run]) -> Iterator[Link]:
    base = run.record.based_on
    if base and base != run.name:
        yield Link(base if base in names else safe(base, 60), SETTINGS)


def _resolved(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def described(run: Run, linked: Mapping[str, Sequence[Link]], lang: Lang) -> str:
    """What a run began from, and how often it was resumed, in words; empty if there is nothing to say."""
    parts = [_words(link, lang) for link in linked.get(run.name, ())]
    if run.state.attempt > 1:
        parts.append(say("lineage.resumed", lang, count=run.state.attempt - 1))
    return " · ".join(parts)


def _words(link: Link, lang: Lang) -> str:
    parent = safe(link.parent, 60)
    if link.kind != SETTINGS and link.step:
        return say(f"lineage.{link.kind}_step", lang, run=parent, step=link.step)
    return say(f"lineage.{link.kind}", lang, run=parent)


def tree(found: Sequence[Run], linked: Mapping[str, Sequence[Link]], wanted: Sequence[str] = ()) -> list[Node]:
    """The runs as trees, each below the run it began from; only those related to the `wanted` ones, if any."""
    names = {run.name: run for run in found}
    above = {name: link for name in names if (link := _above(name, linked, names)) is not None}
    below: dict[str, list[str]] = {}
    for name, link in above.items():
        below.setdefault(link.parent, []).append(name)
    roots = [name for name in names if name not in above]
    chosen = {_root(name, above) for name in wanted if name in names} if wanted else set(roots)
    nodes: list[Node] = []
    for root in roots:
        if root in chosen:
            nodes += _branch(root, 0, names, above, below)
    return nodes


def _above(name: str, linked: Mapping[str, Sequence[Link]], names: Mapping[str, Run]) -> Link | None:
    """The link by which a run stands in the tree; None at a root, and where following it would lead in a circle."""
    link = next((link for link in linked.get(name, ()) if link.parent in names), None)
    seen, at = {name}, link
    while at is not None:
        if at.parent in seen:
            return None
        seen.add(at.parent)
        at = next((one for one in linked.get(at.parent, ()) if one.parent in names), None)
    return link


def _root(name: str, above: Mapping[str, Link]) -> str:
    while name in above:
        name = above[name].parent
    return name


def _branch(
    root: str, depth: int, names: Mapping[str, Run], above: Mapping[str, Link], below: Mapping[str, list[str]]
) -> Iterator[Node]:
    waiting = [(root, depth)]
    while waiting:
        name, at = waiting.pop()
        yield Node(at, names[name], above.get(name))
        waiting += [(one, at + 1) for one in below.get(name, ())]
