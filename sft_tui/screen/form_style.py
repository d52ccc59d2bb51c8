"""How Textual's widgets look on a form: the roles of `ink` as variables of the stylesheet."""

from rich.color import Color, ColorType
from rich.style import Style
from rich.text import Text

from sft_tui.screen.ink import Ink, Line

DEFAULT = "ansi_default"

CSS = """
Screen { background: $ink-back; color: $ink-fore; }
FormScreen { layout: vertical; }
FormScreen > #title, FormScreen > #bottom { height: 1; }
FormScreen > #body { height: 1fr; background: $ink-back; }
FormScreen .columns { layout: horizontal; height: 1fr; }
FormScreen Container, FormScreen Vertical, FormScreen Horizontal, FormScreen VerticalScroll {
    background: $ink-back; color: $ink-fore; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
}
FormScreen Static, FormScreen Label { background: $ink-back; color: $ink-fore; width: 1fr; height: auto; }
FormScreen .dim { color: $ink-dim; }
FormScreen .bad { color: $ink-bad; text-style: bold; }
FormScreen .framed {
    border: $ink-border $ink-frame; border-title-color: $ink-head; border-title-style: bold;
    border-title-background: $ink-back; border-subtitle-color: $ink-dim; border-subtitle-background: $ink-back;
    padding: 0 1;
}
FormScreen Input, FormScreen TextArea {
    border: none; padding: 0; height: 1; background: $ink-back; color: $ink-head; background-tint: $ink-back 0%;
}
FormScreen Input:focus, FormScreen TextArea:focus { border: none; background-tint: $ink-back 0%; }
FormScreen Input.framed, FormScreen TextArea.framed { border: $ink-border $ink-frame; padding: 0 1; height: 3; }
FormScreen Input.framed:focus, FormScreen TextArea.framed:focus { border: $ink-border $ink-accent; }
FormScreen #talk { height: 1fr; }
FormScreen #message { height: auto; min-height: 3; max-height: 8; }
FormScreen Input > .input--placeholder, FormScreen Input > .input--suggestion { color: $ink-dim; }
FormScreen Input > .input--cursor { color: $ink-fore; background: $ink-back; text-style: reverse; }
FormScreen TextArea .text-area--cursor { color: $ink-fore; background: $ink-back; text-style: reverse; }
FormScreen TextArea .text-area--cursor-line { background: $ink-back; }
FormScreen OptionList {
    border: none; padding: 0; height: 1fr; background: $ink-back; color: $ink-fore; background-tint: $ink-back 0%;
    scrollbar-size-vertical: 1;
}
FormScreen OptionList:focus { border: none; background-tint: $ink-back 0%; }
FormScreen OptionList.framed, FormScreen OptionList.framed:focus { border: $ink-border $ink-frame; padding: 0 1; }
FormScreen OptionList.framed:focus { border: $ink-border $ink-accent; }
FormScreen OptionList > .option-list--option { padding: 0; }
FormScreen OptionList > .option-list--option-disabled { color: $ink-dim; text-style: bold; }
FormScreen OptionList > .option-list--option-hover { background: $ink-back; color: $ink-fore; text-style: none; }
FormScreen OptionList > .option-list--option-highlighted,
FormScreen OptionList:focus > .option-list--option-highlighted {
    background: $ink-select-back; color: $ink-select-fore; text-style: $ink-select-style;
}
FormScreen DirectoryTree, FormScreen Tree { background: $ink-back; color: $ink-fore; background-tint: $ink-back 0%; }
FormScreen Markdown { background: $ink-back; color: $ink-fore; }
FormScreen * {
    scrollbar-color: $ink-frame; scrollbar-color-hover: $ink-accent; scrollbar-color-active: $ink-accent;
    scrollbar-background: $ink-back; scrollbar-background-hover: $ink-back; scrollbar-background-active: $ink-back;
    scrollbar-corner-color: $ink-back;
}
"""


def _named(color: Color | None) -> str:
    if color is None or color.type == ColorType.DEFAULT:
        return DEFAULT
    return color.name if color.type == ColorType.TRUECOLOR else f"ansi_{color.name}"


def _text_style(style: Style) -> str:
    words = [word for word, on in (("bold", style.bold), ("dim", style.dim), ("reverse", style.reverse)) if on]
    return " ".join(words) or "none"


def variables(ink: Ink) -> dict[str, str]:
    """The variables of the stylesheet for a terminal: `ink-ROLE` the colour of each role, and those of `CSS`."""
    plain, select = ink.style(""), ink.style("select")
    found = {f"ink-{role}": _named(ink.style(role).color) for role in ("dim", "accent", "good", "warn", "bad", "head")}
    return {
        **found,
        "ink-frame": _named(ink.style("frame").color),
        "ink-fore": _named(plain.color),
        "ink-back": _named(plain.bgcolor),
        "ink-select-fore": _named(select.color),
        "ink-select-back": _named(select.bgcolor),
        "ink-select-style": _text_style(select),
        "ink-border": "ascii" if ink.ascii else "solid",
    }


def styled(line: Line, ink: Ink) -> Text:
    """A line of the canvas as a text for Textual's widgets; nothing in it is markup.

    Plain text gets no style of its own, so that the widget's colours, such as those of a selected option, show.
    """
    text = Text(no_wrap=True, end="")
    for words, role in line:
        style = ink.style(role) if role else Style.null()
        text.append(ink.text(words), Style(color=style.color, bold=style.bold, dim=style.dim, reverse=style.reverse))
    return text
