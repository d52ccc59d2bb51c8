"""All key actions in one table: key handling, footer, help page, command palette and README are generated from it."""

from dataclasses import dataclass

from engine.contract.texts import Lang

UNSEEN = ("quit", "suspend")  # allowed even if the terminal is too small to show the effect
EVERYWHERE, LAUNCH, RUN, RUNS = "everywhere", "launch", "run", "runs"
SCOPES = {
    LAUNCH: ("Launch", "启动"),
    RUN: ("Run", "运行"),
    RUNS: ("Runs", "运行列表"),
    EVERYWHERE: ("Everywhere", "通用"),
}


@dataclass(frozen=True)
class Action:
    """An action: `keys` as Textual names them, `label` for the footer, `help` everywhere else."""

    name: str
    scope: str
    keys: tuple[str, ...]
    en: str
    zh: str
    help_en: str
    help_zh: str
    footer: bool = True
    alive: bool | None = None  # in the footer only for a run that is alive (True) or not (False)

    def label(self, lang: Lang) -> str:
        """A word or two."""
        return self.zh if lang == "zh" else self.en

    def help(self, lang: Lang) -> str:
        """A sentence."""
        return self.help_zh if lang == "zh" else self.help_en


ACTIONS: tuple[Action, ...] = (
    Action(
        "start",
        LAUNCH,
        ("enter",),
        "start",
        "启动",
        "Start the run; on a problem: fix it; on a setting: edit it.",
        "启动运行；光标在问题上则修复，在参数上则修改。",
    ),
    Action(
        "resume",
        LAUNCH,
        ("r",),
        "resume",
        "继续",
        "Resume the unfinished run of this preset.",
        "继续该预设未完成的运行。",
    ),
    Action(
        "fix",
        LAUNCH,
        ("f",),
        "fix",
        "修复",
        "Fix the problem under the cursor, or the first one; asks first.",
        "修复光标所在的问题（或第一个问题）；会先询问。",
    ),
    Action("edit", LAUNCH, ("e",), "edit", "修改", "Edit the setting under the cursor.", "修改光标所在的参数。"),
    Action(
        "reset",
        LAUNCH,
        ("backspace",),
        "reset",
        "还原",
        "Reset the setting under the cursor to its preset's value.",
        "将光标所在的参数恢复为预设值。",
        footer=False,
    ),
    Action(
        "rehearse",
        LAUNCH,
        ("h",),
        "rehearse",
        "预演",
        "Do everything of the run once: peak memory, time, and the micro-batches that fit.",
        "把全过程走一遍：内存峰值、时间和放得下的微批。",
    ),
    Action("check", LAUNCH, ("c",), "check again", "重新检查", "Check everything again.", "重新检查。", footer=False),
    Action("runs", LAUNCH, ("l",), "runs", "运行列表", "List all runs.", "列出所有运行。"),
    Action(
        "stop",
        RUN,
        ("s",),
        "stop & save",
        "保存并停止",
        "Save and end the run; asks first.",
        "保存并结束运行；会先询问。",
    ),
    Action(
        "pause",
        RUN,
        ("p",),
        "pause",
        "暂停",
        "Save and free memory and GPUs; asks first. Press again to continue.",
        "保存并释放内存和 GPU；会先询问。再按一次则继续。",
    ),
    Action(
        "now",
        RUN,
        ("X",),
        "end now",
        "立即结束",
        "End the run at once, without saving; asks first.",
        "不保存，立即结束；会先询问。",
        footer=False,
    ),
    Action("resume", RUN, ("r",), "resume", "继续", "Resume a run that ended.", "继续已结束的运行。"),
    Action(
        "fix",
        RUN,
        ("f",),
        "apply fix",
        "应用修正",
        "Resume with the fix that was proposed when the run ended.",
        "按结束时给出的修正继续运行。",
        footer=False,  # the certificate names the key if there is a fix
    ),
    Action(
        "page",
        RUN,
        ("tab",),
        "panels",
        "面板",
        "The next panel: where there is room for one, or to fill the screen.",
        "切换面板；空间不足时逐页显示。",
    ),
    Action(
        "metric",
        RUN,
        ("m",),
        "metric",
        "指标",
        "Another curve: loss, learning rate, gradient norm, tokens a second, padding.",
        "切换曲线：损失、学习率、梯度范数、每秒词元、填充。",
    ),
    Action(
        "log_scale",
        RUN,
        ("g",),
        "log scale",
        "对数",
        "Logarithmic scale of the chart, or linear.",
        "图表在对数与线性刻度间切换。",
    ),
    Action(
        "zoom_in",
        RUN,
        ("plus", "equals_sign"),
        "zoom in",
        "放大",
        "Fewer steps in the chart.",
        "图表显示更少的步数。",
        footer=False,
    ),
    Action(
        "zoom_out",
        RUN,
        ("minus",),
        "zoom out",
        "缩小",
        "More steps in the chart, up to the whole run.",
        "图表显示更多步数，直至全程。",
        footer=False,
    ),
    Action(
        "pan_left", RUN, ("left",), "earlier", "向前", "Earlier steps in the chart.", "图表向前移动。", footer=False
    ),
    Action("pan_right", RUN, ("right",), "later", "向后", "Later steps in the chart.", "图表向后移动。", footer=False),
    Action(
        "tail",
        RUN,
        ("t",),
        "tail",
        "尾部",
        "The newest steps in the chart, or the whole run.",
        "图表在最新步数与全程间切换。",
        footer=False,
    ),
    Action(
        "search",
        RUN,
        ("slash",),
        "search",
        "搜索",
        "Show the lines of the log that contain a text.",
        "只显示日志中含有某文字的行。",
    ),
    Action(
        "level",
        RUN,
        ("v",),
        "level",
        "级别",
        "Which lines of the log: all, without steps, warnings.",
        "日志级别：全部、不含步、仅警告。",
        footer=False,
    ),
    Action(
        "copy",
        RUN,
        ("y",),
        "copy",
        "复制",
        "Copy the newest certificate or the log that is shown: to the clipboard over SSH, and to a file.",
        "复制结束说明或所显示的日志：经 SSH 到剪贴板，同时写入文件。",
        footer=False,
    ),
    Action("runs", RUN, ("l",), "runs", "运行列表", "List all runs.", "列出所有运行。"),
    Action(
        "quit",
        RUN,
        ("q", "ctrl+c", "ctrl+q"),
        "leave it running",
        "离开，继续运行",
        "Detach: leave the screen; the run continues.",
        "离开界面；运行继续。",
        alive=True,
    ),
    Action("open", RUNS, ("enter",), "open", "打开", "Open the run under the cursor.", "打开光标所在的运行。"),
    Action(
        "mark",
        RUNS,
        ("space",),
        "compare",
        "比较",
        "Mark a run; two or more are compared.",
        "标记运行；两个以上则进行比较。",
    ),
    Action("resume", RUNS, ("r",), "resume", "继续", "Resume the run under the cursor.", "继续光标所在的运行。"),
    Action(
        "delete",
        RUNS,
        ("d",),
        "delete",
        "删除",
        "Delete a run's log, and the checkpoints it wrote; says what would be deleted, and asks.",
        "删除运行的日志及其检查点；会说明将删除什么并询问。",
    ),
    Action("copy", RUNS, ("y",), "copy path", "复制路径", "Copy the path of the run's folder.", "复制运行目录的路径。"),
    Action("launch", RUNS, ("n",), "new run", "新建", "Choose a preset and start a run.", "选择预设并启动运行。"),
    Action(
        "up", EVERYWHERE, ("up", "k"), "up", "上", "Up, or back in the log.", "向上，或在日志中后退。", footer=False
    ),
    Action(
        "down",
        EVERYWHERE,
        ("down", "j"),
        "down",
        "下",
        "Down, or forward in the log.",
        "向下，或在日志中前进。",
        footer=False,
    ),
    Action("page_up", EVERYWHERE, ("pageup",), "page up", "上页", "A page up.", "上翻一页。", footer=False),
    Action("page_down", EVERYWHERE, ("pagedown",), "page down", "下页", "A page down.", "下翻一页。", footer=False),
    Action("oldest", EVERYWHERE, ("home",), "first", "首行", "To the first line.", "到第一行。", footer=False),
    Action(
        "newest",
        EVERYWHERE,
        ("end",),
        "last",
        "末行",
        "To the last line; the log follows again.",
        "到最后一行；日志恢复跟随。",
        footer=False,
    ),
    Action("next", LAUNCH, ("tab",), "next panel", "下一栏", "The next panel.", "下一栏。", footer=False),
    Action(
        "back",
        EVERYWHERE,
        ("escape",),
        "back",
        "返回",
        "Go back (runs continue). In a log that is searched: show all of it again first.",
        "返回；运行不受影响。搜索日志时则先恢复全部。",
        footer=False,
    ),
    Action(
        "theme",
        EVERYWHERE,
        ("ctrl+t",),
        "theme",
        "主题",
        "Dark, light, 16 colours, none.",
        "深色、浅色、16 色、无色。",
        footer=False,
    ),
    Action(
        "suspend",
        EVERYWHERE,
        ("ctrl+z",),
        "suspend",
        "挂起",
        "Back to the shell; `fg` brings the screen back. Runs are not suspended.",
        "回到 shell；用 fg 返回界面。运行不受影响。",
        footer=False,
    ),
    Action(
        "palette",
        EVERYWHERE,
        ("ctrl+p",),
        "commands",
        "命令",
        "Find any of these by its name.",
        "按名称查找操作。",
        footer=False,
    ),
    Action("help", EVERYWHERE, ("question_mark",), "help", "帮助", "This page.", "本页。"),
    Action(
        "quit",
        EVERYWHERE,
        ("q", "ctrl+c", "ctrl+q"),
        "quit",
        "退出",
        "Leave the screen; every run continues.",
        "离开界面；所有运行继续。",
    ),
)

SHOWN = {
    "enter": "enter",
    "plus": "+", "equals_sign": "=", "minus": "-", "slash": "/", "question_mark": "?", "space": "space",
    "left": "←", "right": "→", "up": "↑", "down": "↓", "escape": "esc", "pageup": "pgup", "pagedown": "pgdn",
    "ctrl+t": "^t", "ctrl+p": "^p", "ctrl+c": "^c", "ctrl+q": "^q", "ctrl+z": "^z", "backspace": "bksp", "tab": "tab",
}  # fmt: skip


def shown(key: str) -> str:
    """A key as displayed."""
    return SHOWN.get(key, key)


def of_scope(scope: str) -> list[Action]:
    """The actions of a screen, its own first."""
    own = [action for action in ACTIONS if action.scope == scope]
    taken = {key for action in own for key in action.keys}
    return [*own, *(a for a in ACTIONS if a.scope == EVERYWHERE and not taken & set(a.keys))]


def by_key(scope: str, key: str) -> Action | None:
    """The action of a key on a screen; None if it has none."""
    return next((action for action in of_scope(scope) if key in action.keys), None)


def table(lang: Lang) -> list[str]:
    """All keys as a Markdown table, for docs/keys.md."""
    titles = ("：键", "操作") if lang == "zh" else (": key", "what it does")
    lines = []
    for scope, names in SCOPES.items():
        lines += [f"| {names[lang == 'zh']}{titles[0]} | {titles[1]} |", "|---|---|"]
        for action in ACTIONS:
            if action.scope == scope:
                keys = " ".join(f"`{shown(key)}`" for key in action.keys)
                lines.append(f"| {keys} | {action.help(lang)} |")
        lines.append("")
    return lines[:-1]
