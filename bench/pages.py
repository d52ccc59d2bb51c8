"""Generates the pages of the documentation that mirror the code: `python -m bench.pages`.

These are `docs/keys.md` and `docs/reference.md`, the tables of `docs/data.md`, and the table of presets in the README,
each also in Chinese; and the table of checks in `docs/preflight.md`. A test checks that they match the code.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.contract.config import FIELDS, RunConfig, setting_of
from engine.contract.presets import Preset, built_in
from engine.contract.texts import Lang, say, template
from engine.data.shapes.columns import LISTS, NAMES
from engine.data.shapes.known import SHAPES
from sft_tui.preflight import check as _all_checks  # noqa: F401  # declares every check
from sft_tui.preflight.declaration import GROUPS, Check
from sft_tui.preflight.finding import words
from sft_tui.screen import actions

ROOT = Path(__file__).parents[1]
SUFFIXES: dict[Lang, str] = {"en": "", "zh": ".zh"}
SHOWN = ("sft-small", "sft", "sft-fast", "pretrain", "pretrain-large", "chat", "chat-lora")
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
    titles = [say(f"page.{title}", lang) for title in ("setting", "default", "range", "meaning")]
    for name in FIELDS:
        if setting_of(name).group != group:
            group = setting_of(name).group
            lines += ["", f"## {say(f'group.{group}', lang)}", "", f"| {' | '.join(titles)} |", "|---|---|---|---|"]
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
    rows: tuple[tuple[str, Callable[[Preset], str]], ...] = (
        ("epochs", lambda one: str(one.config.epochs)),
        (
            "batch_size_per_gpu × gradient_accumulation_steps",
            lambda one: f"{one.config.batch_size_per_gpu} × {one.config.gradient_accumulation_steps}",
        ),
        (
            say("page.learn_rate", lang),
            lambda one: f"{_short(one.config.learn_rate)} → {_short(one.config.peak_learn_rate())}",
        ),
        (say("page.max_seq_len", lang), lambda one: str(one.config.max_seq_len)),
        (say("page.freeze", lang), lambda one: one.config.freeze.replace(",", ", ") or "-"),
        (say("page.output", lang), lambda one: one.config.output_dir.removeprefix(MODELS)),
    )
    lines = [f"| | {' | '.join(SHOWN)} |", "|---|" + "---|" * len(SHOWN)]
    lines += [f"| {title} | {' | '.join(map(of, chosen))} |" for title, of in rows]
    about = [say("page.preset", lang, name=one.name, summary=one.summary(lang)) for one in chosen]
    return "\n".join([*about, "", *lines])


def shapes_table(lang: Lang) -> str:
    """The table of the shapes of records that are read."""
    lines = [f"| {say('page.shape', lang)} | {say('page.record', lang)} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {shape.name} | `{shape.example}` |" for shape in SHAPES)])


def names_table(lang: Lang) -> str:
    """The table of the names of columns that are read."""
    lines = [f"| {say('page.part', lang)} | {say('page.names', lang)} |", "|---|---|"]
    parts = [part for part in NAMES if part not in LISTS]
    return "\n".join([*lines, *(f"| {part} | {', '.join(f'`{name}`' for name in NAMES[part])} |" for part in parts)])


def _short(rate: float) -> str:
    """A rate without superfluous zeros: 5e-5, 1.25e-3."""
    digits, power = f"{rate:.3g}".split("e") if "e" in f"{rate:.3g}" else f"{rate:.2e}".split("e")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits}e{int(power)}"


def filled(text: str, tables: dict[str, str]) -> str:
    """A page in which each table stands between the two comments that carry its name."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, _, rest = text.partition(begin)
        _, marked, after = rest.partition(end)
        if not marked:
            raise ValueError(f"the page lacks {begin.strip()} … {end.strip()}")
        text = f"{before}{begin}\n{table}\n\n{end}{after}"
    return text


def checks_tables() -> str:
    """The tables of the checks that find something wrong, one a group; a check's docstrings are its row."""
    found: dict[str, list[str]] = {}
    for group in GROUPS:
        rows = [_check_row(check) for check, _ in group.checks if set(check.levels) != {"ok"}]
        found.setdefault(group.title, []).extend(rows)
    head = "| code | what it finds | level | remedy |\n|---|---|---|---|"
    return "\n\n".join("\n".join([f"### {title}\n\n{head}", *rows]) for title, rows in found.items() if rows)


def _check_row(check: Check) -> str:
    levels = " or ".join(level for level in check.levels if level != "ok")
    return f"| `{check.code}` | {_sentence(check.about)} | {levels} | {_sentence(_remedy(check))} |"


def _remedy(check: Check) -> str:
    """What its remedy does, or else what its words say to do, with their placeholders in capitals."""
    if check.remedy is not None:
        return check.remedy.__doc__ or ""
    text = words(check.code, "fix", "en") or template(f"message.{check.code}.fix", "en")
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: found[1].upper(), text)


def _sentence(text: str) -> str:
    return _cell(text).removesuffix(".") or "-"


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with its content."""
    for lang, suffix in SUFFIXES.items():
        yield ROOT / "docs" / f"keys{suffix}.md", keys(lang)
        yield ROOT / "docs" / f"reference{suffix}.md", reference(lang)
        for name, tables in (
            (f"README{suffix}.md", {"presets": presets_table(lang)}),
            (f"docs/data{suffix}.md", {"shapes": shapes_table(lang), "names": names_table(lang)}),
        ):
            yield ROOT / name, filled((ROOT / name).read_text(encoding="utf-8"), tables)
    checks = ROOT / "docs" / "preflight.md"
    yield checks, filled(checks.read_text(encoding="utf-8"), {"checks": checks_tables()})


def main() -> None:
    """Writes the pages."""
    for path, text in pages():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
