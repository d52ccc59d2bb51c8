"""The lines of the picker of paths: a candidate, and what it is."""

from collections.abc import Sequence

from engine.contract.glances import DataGlance, ModelGlance
from engine.contract.messages import Message
from engine.contract.texts import Lang, say
from sft_tui.candidates import Candidate
from sft_tui.found import ModelPlace
from sft_tui.here_text import data_words, model_words
from sft_tui.screen.ink import Line, columns, fit, tail
from sft_tui.text import safe

About = DataGlance | ModelGlance | Message | None
USUAL_NAME, NAME = 24, 44  # columns of a name, at most
TAGGED = ("recent", "cached", "demo", "hub", "typed")


def name_columns(listed: Sequence[Candidate], width: int) -> int:
    """The columns of the names in a list of this width."""
    longest = max((columns([(safe(one.name, 400), "")]) for one in listed), default=0)
    return max(10, min(max(USUAL_NAME, longest), NAME, width // 2))


def option_line(candidate: Candidate, about: About, name_width: int, width: int, lang: Lang) -> Line:
    """A candidate on one line: its name, what it is, and from where."""
    tag = say(f"pick.{candidate.kind}", lang) if candidate.kind in TAGGED else ""
    name = tail(safe(candidate.name, 400), name_width)
    words = what_it_is(candidate, about, lang)
    room = max(0, width - name_width - 2 - (columns([(tag, "")]) + 2 if tag else 0))
    line: Line = [*fit([(name, "")], name_width), ("  ", "")]
    return [*line, *fit([(words, "dim")], room), ("  " if tag else "", ""), (tag, "dim")]


def what_it_is(candidate: Candidate, about: About, lang: Lang) -> str:
    """What is known of a candidate; empty if nothing is."""
    if isinstance(about, DataGlance):
        return data_words(about, lang)
    if isinstance(about, ModelGlance):
        return model_words(ModelPlace(candidate.path, about=about), lang)
    if isinstance(about, Message):
        return safe(about.what(lang), 200)
    if candidate.kind == "demo":
        return say("pick.demo_kept" if candidate.folder else "pick.demo_get", lang)
    if candidate.kind == "hub":
        return say("pick.hub_get", lang)
    if candidate.path.lower().endswith(".gguf"):
        return say("here.gguf", lang)
    return say("pick.folder", lang) if candidate.folder and not candidate.fits else ""
