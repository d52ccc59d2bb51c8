"""Generates the pages of the documentation that mirror the code: `python -m bench.pages`.

These are `docs/keys.md` and `docs/reference.md`, with their Chinese twins, and the table of presets in both READMEs.
A test checks that they match the code.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.contract.config import FIELDS, RunConfig, setting_of
from engine.contract.presets import Preset, built_in
from engine.contract.texts import Lang
from sft_tui.locale import say
from sft_tui.screen import actions

ROOT = Path(__file__).parents[1]
SUFFIXES: dict[Lang, str] = {"en": "", "zh": ".zh"}
SHOWN = ("sft-small", "sft", "sft-fast", "pretrain", "pretrain-large")
MODELS = "model_save/"

KEYS: dict[Lang, str] = {
    "en": """# Keys

What each key does, screen by screen. `?` shows this on the screen, `^p` finds any of them by its name.""",
    "zh": """# 按键

各界面的按键及其作用。在界面中按 `?` 可查看，按 `^p` 可按名称查找。""",
}
SETTINGS: dict[Lang, str] = {
    "en": """# Settings

Every setting is an option of `run`, `check`, `rehearse`, `test` and `resume`: `--epochs 5`. The defaults are those of
`sft-small`; `sft-tui presets show NAME` lists what another preset sets.""",
    "zh": """# 参数

每个参数都是 `run`、`check`、`rehearse`、`test`、`resume` 的选项，如 `--epochs 5`。默认值来自 `sft-small`；
其他预设的取值见 `sft-tui presets show 名称`。""",
}


def keys(lang: Lang) -> str:
    """The page of keys."""
    return "\n".join([KEYS[lang], "", *actions.table(lang), ""])


def reference(lang: Lang) -> str:
    """The page of settings."""
    lines, group = [SETTINGS[lang]], ""
    titles = ("参数", "默认值", "范围", "含义") if lang == "zh" else ("setting", "default", "range", "meaning")
    for name in FIELDS:
        if setting_of(name).group != group:
            group = setting_of(name).group
            lines += ["", f"## {say(f'group_{group}', lang)}", "", f"| {' | '.join(titles)} |", "|---|---|---|---|"]
        lines.append(_setting(name, lang))
    return "\n".join([*lines, ""])


def _setting(name: str, lang: Lang) -> str:
    rule, value = setting_of(name), getattr(RunConfig(), name)
    default = f"`{value}`" if value != "" else rule.empty(lang) or "-"
    unit = f" {rule.unit_in(lang)}" if rule.unit else ""
    return f"| `{name}` | {default}{unit} | {_range(name)} | {_cell(rule.help(lang))} |"


def _range(name: str) -> str:
    rule = setting_of(name)
    if rule.choices:
        return ", ".join(f"`{choice}`" for choice in rule.choices)
    low = "" if rule.low is None else f"{'>' if rule.low_open else '≥'} {rule.low:g}"
    high = "" if rule.high is None else f"≤ {rule.high:g}"
    return ", ".join(filter(None, (low, high))) or "-"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def presets_table(lang: Lang) -> str:
    """The table of presets."""
    chosen = [built_in()[name] for name in SHOWN]
    rows: tuple[tuple[str, str, Callable[[Preset], str]], ...] = (
        ("epochs", "epochs", lambda one: str(one.config.epochs)),
        ("batch_size_per_gpu × gradient_accumulation_steps",) * 2
        + (lambda one: f"{one.config.batch_size_per_gpu} × {one.config.gradient_accumulation_steps}",),
        (
            "learn_rate, peak",
            "learn_rate，峰值",
            lambda one: f"{_short(one.config.learn_rate)} → {_short(one.config.peak_learn_rate())}",
        ),
        ("max_seq_len (tokens)", "max_seq_len（词元）", lambda one: str(one.config.max_seq_len)),
        ("freeze", "freeze（冻结）", lambda one: one.config.freeze.replace(",", ", ") or "-"),
        ("output under model_save/", "输出（model_save/ 下）", lambda one: one.config.output_dir.removeprefix(MODELS)),
    )
    lines = [f"| | {' | '.join(SHOWN)} |", "|---|" + "---|" * len(SHOWN)]
    for en, zh, of in rows:
        lines.append(f"| {zh if lang == 'zh' else en} | {' | '.join(map(of, chosen))} |")
    about = [f"- `{one.name}`: {one.summary(lang)}{'。' if lang == 'zh' else '.'}" for one in chosen]
    return "\n".join([*about, "", *lines])


def _short(rate: float) -> str:
    """A rate without superfluous zeros: 5e-5, 1.25e-3."""
    digits, power = f"{rate:.3g}".split("e") if "e" in f"{rate:.3g}" else f"{rate:.2e}".split("e")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits}e{int(power)}"


def readme(lang: Lang, text: str) -> str:
    """A README with the code's current table of presets."""
    title = "## 预设" if lang == "zh" else "## Presets"
    pattern = re.compile(rf"(?<={re.escape(title)}\n\n).*?(?=\n\n`demo-pretrain`)", re.DOTALL)
    return pattern.sub(lambda _: presets_table(lang), text, count=1)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with its content."""
    for lang, suffix in SUFFIXES.items():
        yield ROOT / "docs" / f"keys{suffix}.md", keys(lang)
        yield ROOT / "docs" / f"reference{suffix}.md", reference(lang)
        path = ROOT / f"README{suffix}.md"
        yield path, readme(lang, path.read_text(encoding="utf-8"))


def main() -> None:
    """Writes the pages."""
    for path, text in pages():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
