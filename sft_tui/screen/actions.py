"""All key actions in one table: key handling, footer, help page, command palette and README are generated from it."""

from dataclasses import dataclass

from engine.contract.texts import Lang, say

UNSEEN = ("quit", "suspend")  # allowed even if the terminal is too small to show the effect
ALWAYS = ("escape", "ctrl+c", "ctrl+q", "ctrl+t", "ctrl+p", "ctrl+z")  # never a widget's
EVERYWHERE, LAUNCH, RUN, RUNS, CHART, FORM = "everywhere", "launch", "run", "runs", "chart", "form"
QUEUE, ROWS, SETTINGS = "queue", "rows", "settings"
CHAT, BLIND, OF_RUN, OUTPUT, RESUME = "chat", "blind", "of_run", "output", "resume"
HERE, PICK, IMPORT, MODEL, DATA = "here", "pick", "import", "model", "data"
SCOPES = (
    HERE, PICK, IMPORT, MODEL, LAUNCH, DATA, SETTINGS, RUN, RUNS, OF_RUN, QUEUE, CHART, ROWS, CHAT, BLIND, OUTPUT,
    RESUME, FORM, EVERYWHERE,
)  # fmt: skip
# The scopes that a screen has apart from its own and that of every screen.
PARTS: dict[str, tuple[str, ...]] = {
    RUN: (OF_RUN, CHART), RUNS: (OF_RUN, CHART), CHAT: (FORM,), SETTINGS: (FORM,), MODEL: (FORM,)
}  # fmt: skip
# The pages of a run.
PAGES = ("page", "page_all", "page_settings", "page_chart", "page_samples", "page_log", "page_machine")


@dataclass(frozen=True)
class Action:
    """An action: `keys` as Textual names them, `label` for the footer, `help` everywhere else."""

    name: str
    scope: str
    keys: tuple[str, ...]
    footer: bool = True
    alive: bool | None = None  # in the footer only for a run that is alive (True) or not (False)
    first: bool = False  # before all others in the footer whenever it is possible

    def label(self, lang: Lang) -> str:
        """A word or two."""
        return say(f"action.{self.scope}.{self.name}.label", lang)

    def help(self, lang: Lang) -> str:
        """A sentence."""
        return say(f"action.{self.scope}.{self.name}.help", lang)


ACTIONS: tuple[Action, ...] = (
    Action("go", HERE, ("enter",)),
    Action("choose", HERE, tuple("123456789"), footer=False),
    Action("launch", HERE, ("n",)),
    Action("runs", HERE, ("l",)),
    Action("choose", PICK, ("enter",)),
    Action("complete", PICK, ("tab",)),
    Action("enter", PICK, ("right",)),
    Action("leave", PICK, ("left",)),
    Action("up", PICK, ("up",), footer=False),
    Action("down", PICK, ("down",), footer=False),
    Action("page_up", PICK, ("pageup",), footer=False),
    Action("page_down", PICK, ("pagedown",), footer=False),
    Action("go", IMPORT, ("enter",)),
    Action("columns", IMPORT, ("m",)),
    Action("next", IMPORT, ("tab",)),
    Action("previous", IMPORT, ("shift+tab",), footer=False),
    Action("go", MODEL, ("enter",)),
    Action("start", LAUNCH, ("enter",)),
    Action("resume", LAUNCH, ("r",)),
    Action("fix", LAUNCH, ("f",)),
    Action("force", LAUNCH, ("F",)),
    Action("edit", LAUNCH, ("e",)),
    Action("data", LAUNCH, ("d",)),
    Action("reset", LAUNCH, ("backspace",), footer=False),
    Action("rehearse", LAUNCH, ("h",)),
    Action("rehearse_within", LAUNCH, ("H",), footer=False),
    Action("check", LAUNCH, ("c",), footer=False),
    Action("last", LAUNCH, ("u",)),
    Action("save", LAUNCH, ("w",)),
    Action("delete", LAUNCH, ("D",), footer=False),
    Action("command", LAUNCH, ("K",), footer=False),
    Action("enqueue", LAUNCH, ("Q",)),
    Action("chat", LAUNCH, ("i",)),
    Action("runs", LAUNCH, ("l",)),
    Action("previous", DATA, ("left",)),
    Action("next", DATA, ("right",)),
    Action("go", DATA, ("g", "slash")),
    Action("file", DATA, ("tab",)),
    Action("copy", DATA, ("y",)),
    Action("page_up", DATA, ("pageup",), footer=False),
    Action("page_down", DATA, ("pagedown",), footer=False),
    Action("oldest", DATA, ("home",), footer=False),
    Action("newest", DATA, ("end",), footer=False),
    Action("edit", SETTINGS, ("enter",)),
    Action("type", SETTINGS, ("e",), footer=False),
    Action("mark", SETTINGS, ("space",)),
    Action("reset", SETTINGS, ("r",)),
    Action("search", SETTINGS, ("slash",)),
    Action("everything", SETTINGS, ("a",), footer=False),
    Action("last", SETTINGS, ("u",)),
    Action("save", SETTINGS, ("w",)),
    Action("delete", SETTINGS, ("D",), footer=False),
    Action("command", SETTINGS, ("K",)),
    Action("stop", RUN, ("s",)),
    Action("pause", RUN, ("p",)),
    Action("now", RUN, ("X",), footer=False),
    Action("resume", RUN, ("r",)),
    Action("page", RUN, ("tab",)),
    Action("page_all", RUN, ("1",), footer=False),
    Action("page_settings", RUN, ("2",), footer=False),
    Action("page_chart", RUN, ("3",), footer=False),
    Action("page_samples", RUN, ("4",), footer=False),
    Action("page_log", RUN, ("5",), footer=False),
    Action("page_machine", RUN, ("6",), footer=False),
    Action("search", RUN, ("slash",)),
    Action("next_hit", RUN, ("n",), footer=False),
    Action("previous_hit", RUN, ("N",), footer=False),
    Action("unfold", RUN, ("space",), footer=False),
    Action("level", RUN, ("v",), footer=False),
    Action("copy", RUN, ("y",), footer=False),
    Action("runs", RUN, ("l",)),
    Action("quit", RUN, ("q", "ctrl+q", "ctrl+c"), alive=True),
    Action("open", RUNS, ("enter",)),
    Action("mark", RUNS, ("space",)),
    Action("page", RUNS, ("tab",)),
    Action("settings", RUNS, ("v",), footer=False),
    Action("order", RUNS, ("o",)),
    Action("filter", RUNS, ("slash",)),
    Action("resume", RUNS, ("r",)),
    Action("delete", RUNS, ("d",)),
    Action("copy", RUNS, ("y",)),
    Action("launch", RUNS, ("n",)),
    Action("open", QUEUE, ("enter",)),
    Action("settings", QUEUE, ("e",)),
    Action("earlier", QUEUE, ("K", "shift+up")),
    Action("later", QUEUE, ("J", "shift+down")),
    Action("delete", QUEUE, ("d",)),
    Action("pause", QUEUE, ("p",)),
    Action("runs", QUEUE, ("l",)),
    Action("more_epochs", OF_RUN, ("E",)),
    Action("test", OF_RUN, ("T",)),
    Action("chat", OF_RUN, ("i",)),
    Action("again", OF_RUN, ("c",)),
    Action("fresh", OF_RUN, ("a",), footer=False),
    Action("fix", OF_RUN, ("f",), footer=False),  # the certificate names the key if there is a fix
    Action("resume_changed", OF_RUN, ("R",), footer=False),
    Action("output", OF_RUN, ("o",), footer=False),
    Action("note", OF_RUN, ("e",), footer=False),
    Action("page", OUTPUT, ("tab",)),
    Action("copy", OUTPUT, ("y",)),
    Action("output", OUTPUT, ("o",), footer=False),
    Action("resume", RESUME, ("enter",)),
    Action("next", RESUME, ("down", "tab")),
    Action("previous", RESUME, ("up", "shift+tab"), footer=False),
    Action("metric", CHART, ("m",)),
    Action("metric_back", CHART, ("M",), footer=False),
    Action("rows", CHART, ("enter",), first=True),
    Action("cursor", CHART, ("x",)),
    Action("log_scale", CHART, ("g",)),
    Action("uncut", CHART, ("G",), footer=False),
    Action("rougher", CHART, ("left_square_bracket",), footer=False),
    Action("smoother", CHART, ("right_square_bracket",), footer=False),
    Action("zoom_in", CHART, ("plus", "equals_sign"), footer=False),
    Action("zoom_out", CHART, ("minus",), footer=False),
    Action("pan_left", CHART, ("left",), footer=False),
    Action("pan_right", CHART, ("right",), footer=False),
    Action("cursor_left", CHART, ("shift+left",), footer=False),
    Action("cursor_right", CHART, ("shift+right",), footer=False),
    Action("spike_before", CHART, ("left_curly_bracket",), footer=False),
    Action("spike_after", CHART, ("right_curly_bracket",), footer=False),
    Action("tail", CHART, ("t",), footer=False),
    Action("leave_out", ROWS, ("x",)),
    Action("previous_step", ROWS, ("left",)),
    Action("next_step", ROWS, ("right",)),
    Action("spike", ROWS, ("s",)),
    Action("copy", ROWS, ("y",)),
    Action("page_up", ROWS, ("pageup",), footer=False),
    Action("page_down", ROWS, ("pagedown",), footer=False),
    Action("send", CHAT, ("enter",)),
    Action("newline", CHAT, ("ctrl+j", "shift+enter"), footer=False),
    Action("new", CHAT, ("ctrl+n",)),
    Action("again", CHAT, ("ctrl+r",)),
    Action("system", CHAT, ("ctrl+s",)),
    Action("sampling", CHAT, ("ctrl+g",)),
    Action("blind", CHAT, ("ctrl+b", "b")),
    Action("copy", CHAT, ("ctrl+y", "y")),
    Action("back", CHAT, ("escape",)),
    Action("quit", CHAT, ("ctrl+q", "ctrl+c")),
    Action("page_up", CHAT, ("pageup",), footer=False),
    Action("page_down", CHAT, ("pagedown",), footer=False),
    Action("up", CHAT, ("ctrl+up",), footer=False),
    Action("down", CHAT, ("ctrl+down",), footer=False),
    Action("oldest", CHAT, ("ctrl+home",), footer=False),
    Action("newest", CHAT, ("ctrl+end",), footer=False),
    Action("first", BLIND, ("1",)),
    Action("second", BLIND, ("2",)),
    Action("equal", BLIND, ("equals_sign",)),
    Action("undo", BLIND, ("backspace",)),
    Action("again", BLIND, ("r",)),
    Action("file", BLIND, ("f",)),
    Action("copy", BLIND, ("y",), footer=False),
    Action("up", EVERYWHERE, ("up", "k"), footer=False),
    Action("down", EVERYWHERE, ("down", "j"), footer=False),
    Action("page_up", EVERYWHERE, ("pageup",), footer=False),
    Action("page_down", EVERYWHERE, ("pagedown",), footer=False),
    Action("oldest", EVERYWHERE, ("home",), footer=False),
    Action("newest", EVERYWHERE, ("end",), footer=False),
    Action("next", LAUNCH, ("tab",), footer=False),
    Action("next", FORM, ("tab",), footer=False),
    Action("previous", FORM, ("shift+tab",), footer=False),
    Action("back", EVERYWHERE, ("escape",), footer=False),
    Action("queue", EVERYWHERE, ("W",), footer=False),
    Action("all_settings", EVERYWHERE, ("S",), footer=False),
    Action("language", EVERYWHERE, ("L",), footer=False),
    Action("theme", EVERYWHERE, ("ctrl+t",), footer=False),
    Action("suspend", EVERYWHERE, ("ctrl+z",), footer=False),
    Action("palette", EVERYWHERE, ("ctrl+p",), footer=False),
    Action("help", EVERYWHERE, ("question_mark",)),
    Action("quit", EVERYWHERE, ("q", "ctrl+q", "ctrl+c")),
)

PRINTED = (  # keys that print a character
    "plus", "minus", "equals_sign", "slash", "question_mark", "space",
    "left_square_bracket", "right_square_bracket", "left_curly_bracket", "right_curly_bracket",
)  # fmt: skip
SHOWN = {
    "enter": "enter",
    "plus": "+", "equals_sign": "=", "minus": "-", "slash": "/", "question_mark": "?", "space": "space",
    "left": "←", "right": "→", "up": "↑", "down": "↓", "escape": "esc", "pageup": "pgup", "pagedown": "pgdn",
    "ctrl+t": "^t", "ctrl+p": "^p", "ctrl+c": "^c", "ctrl+q": "^q", "ctrl+z": "^z", "backspace": "bksp", "tab": "tab",
    "shift+tab": "S-tab", "shift+up": "S-↑", "shift+down": "S-↓",
    "shift+left": "S-←", "shift+right": "S-→", "left_square_bracket": "[",
    "right_square_bracket": "]", "left_curly_bracket": "{", "right_curly_bracket": "}",
    "shift+enter": "S-enter", "ctrl+b": "^b", "ctrl+j": "^j", "ctrl+n": "^n", "ctrl+r": "^r", "ctrl+s": "^s",
    "ctrl+g": "^g", "ctrl+y": "^y", "ctrl+up": "^↑", "ctrl+down": "^↓", "ctrl+home": "^home", "ctrl+end": "^end",
}  # fmt: skip


def prints(key: str) -> bool:
    """Whether a key prints a character where text is typed."""
    return len(key) == 1 or key in PRINTED


def shown(key: str) -> str:
    """A key as displayed."""
    return SHOWN.get(key, key)


def own(scope: str) -> list[Action]:
    """The actions of a screen that others do not have."""
    return [action for action in ACTIONS if action.scope == scope]


def names(scope: str) -> tuple[str, ...]:
    """The names of the actions that `own` returns."""
    return tuple(action.name for action in own(scope))


def of_scope(scope: str) -> list[Action]:
    """The actions of a screen, its own first."""
    found: list[Action] = []
    for part in (scope, *PARTS.get(scope, ()), EVERYWHERE):
        taken = {key for action in found for key in action.keys}
        found += [action for action in own(part) if not taken & set(action.keys)]
    return found


def by_key(scope: str, key: str) -> Action | None:
    """The action of a key on a screen; None if it has none."""
    return next((action for action in of_scope(scope) if key in action.keys), None)


def table(lang: Lang) -> list[str]:
    """All keys as a Markdown table, for docs/keys.md."""
    lines = []
    for scope in SCOPES:
        head = say("keys.head", lang, screen=say(f"scope.{scope}", lang))
        lines += [f"| {head} | {say('keys.meaning', lang)} |", "|---|---|"]
        for action in ACTIONS:
            if action.scope == scope:
                keys = " ".join(f"`{shown(key)}`" for key in action.keys)
                lines.append(f"| {keys} | {action.help(lang)} |")
        lines.append("")
    return lines[:-1]
