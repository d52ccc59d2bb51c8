"""Findings on data files and tokenizer, from the facts of the engine."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.inputs import tokenizer_folder
from engine.contract.reasons import counted
from engine.contract.texts import Lang
from sft_tui.preflight.finding import Finding, of_error
from sft_tui.preflight.fix import Action, Command, as_path
from sft_tui.preflight.missing import named_columns
from sft_tui.starting import options

CUT_SHARE = 0.001  # of the label tokens; above it, cut labels are a warning
UNKNOWN_WARNING, UNKNOWN_ERROR = 0.01, 0.2  # of all tokens
SCRIPTS_ZH = {
    "Latin": "拉丁字母", "Greek": "希腊字母", "Cyrillic": "西里尔字母", "Hebrew": "希伯来文", "Arabic": "阿拉伯文",
    "Devanagari": "天城文", "Thai": "泰文", "Kana": "假名", "Han": "汉字", "Hangul": "谚文",
}  # fmt: skip
BARS = " ▁▂▃▄▅▆▇█"
Facts = Mapping[str, Any]


def percent(share: float) -> str:
    """A share as text: `3.1 %`."""
    return f"{100 * share:.1f} %" if share == 0 or share >= 0.001 else "< 0.1 %"


def scripts(facts: Facts, lang: Lang) -> str:
    """The scripts of a file with at least one letter in a hundred: `Han 94 %, Latin 6 %`."""
    found = [(script, share) for script, share in facts["scripts"].items() if share >= 0.01]
    shown = [f"{script_name(script, lang)} {100 * share:.0f} %" for script, share in found]
    return ("、" if lang == "zh" else ", ").join(shown) or "-"


def script_name(script: str, lang: Lang) -> str:
    """The displayed name of a script."""
    return SCRIPTS_ZH.get(script, script) if lang == "zh" else script


def lengths(facts: Facts, lang: Lang) -> str:
    """Lengths as text: a histogram from 0 to the longest, the median and the 95th percentile."""
    counts = facts["histogram"]["counts"]
    highest = max(1, *counts)
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // highest)] for count in counts)
    longest, half, most = (f"{facts[name]:,}" for name in ("longest", "median", "p95"))
    if lang == "zh":
        return f"{bars} ≤ {longest}（50 % ≤ {half}，95 % ≤ {most}）"
    return f"{bars} ≤ {longest} (50 % ≤ {half}, 95 % ≤ {most})"


def show(config: RunConfig, path: str, row: int) -> tuple[Action, ...]:
    """The action that shows a row as the model sees it."""
    more = {"row": row, "tokenizer": tokenizer_folder(config), **named_columns(config)}
    return (Command(("data", "show", as_path(path), *options(more))),)


def file_findings(config: RunConfig, name: str, facts: Facts) -> Iterator[Finding]:
    """Findings on one data file."""
    path = str(getattr(config, name))
    if "error" in facts:
        yield of_error(facts["error"], name)
        return
    if "store_again" in facts:
        yield Finding("warning", "token_store_again", "token_store", facts["store_again"])
    rows = facts["rows"]
    written = {"scripts": scripts(facts, "en"), "scripts_zh": scripts(facts, "zh")}
    if "label" in facts:
        medians = {part: facts[part]["median"] for part in ("prompt", "label")}
        yield Finding("ok", "rows", name, {"path": path, "rows": rows, **written, **medians})
    else:
        yield Finding("ok", "rows_untokenized", name, {"path": path, "rows": rows, **written})
    dropped = sum(facts["dropped"].values())
    if dropped:
        why = counted(facts["dropped"])
        args = {"path": path, "rows": rows, "dropped": dropped, "first": facts["first_dropped"], "reasons": why}
        yield Finding("warning", "rows_dropped", name, args, show(config, path, facts["first_dropped"]))
    for what in ("control", "replacement"):
        if facts[f"{what}_rows"]:
            first = facts[f"first_{what}"]
            args = {"path": path, "rows": rows, "count": facts[f"{what}_rows"], "first": first}
            yield Finding("warning", f"text_{what}", name, args, show(config, path, first))
    if "label" in facts:
        spread = {part: lengths(facts[part], "en") for part in ("prompt", "label")}
        spread |= {f"{part}_zh": lengths(facts[part], "zh") for part in ("prompt", "label")}
        yield Finding("ok", "lengths", name, spread)
        yield from _token_findings(config, name, path, facts)


def _token_findings(config: RunConfig, name: str, path: str, facts: Facts) -> Iterator[Finding]:
    longest = max(facts["turns_longest"], *(facts[part]["longest"] for part in ("prompt", "label")))
    if facts["turns_rows"]:
        args = {name: facts[name] for name in ("turns_rows", "turns_left_out", "rows", "limit")}
        yield Finding("ok", "turns_left_out", name, {"path": path, "longest": longest, **args})
    if facts["cut_rows"]:
        share = facts["cut_label_tokens"] / max(1, facts["label_tokens"])
        args = {name: facts[name] for name in ("cut_rows", "cut_tokens", "rows", "limit")}
        args |= {"path": path, "share": percent(share), "longest": longest}
        yield Finding("warning" if share >= CUT_SHARE else "ok", "rows_truncated", name, args)
    empty = facts["labels_empty"]
    if empty["rows"]:
        args = {"path": path, "count": empty["rows"], "first": empty["first"]}
        yield Finding("warning", "labels_empty", name, args, show(config, path, empty["first"]))
    repeated = facts["repeated"]
    if repeated["rows"]:
        args = {"path": path, "rows": facts["rows"], "count": repeated["rows"], "first": repeated["first"]}
        yield Finding("warning", "rows_duplicate", name, args)
    share = facts["unknown_tokens"] / max(1, facts["tokens"])
    if share >= UNKNOWN_WARNING:
        args = {"path": path, "share": percent(share), "tokenizer": tokenizer_folder(config)}
        level = "error" if share >= UNKNOWN_ERROR else "warning"
        yield Finding(level, "unknown_tokens", name, args, show(config, path, 0))  # type: ignore[arg-type]


def both_findings(config: RunConfig, facts: Facts, batch: int) -> Iterator[Finding]:
    """Findings on training and validation file together."""
    train, valid = facts["train_file"], facts["validation_file"]
    overlap = facts.get("overlap", {}).get("rows", 0)
    if overlap:
        args = {"count": overlap, "rows": valid["rows"], "first": facts["overlap"]["first"]}
        args["path"] = config.validation_file
        yield Finding("warning", "rows_overlap", "validation_file", args)
    if "error" in train:
        return
    usable = train["rows"] - sum(train["dropped"].values())
    if usable < batch:
        yield Finding("warning", "rows_few", "train_file", {"path": config.train_file, "rows": usable, "batch": batch})
    if "error" not in valid:
        main = [next(iter(file["scripts"]), "-") for file in (train, valid)]
        if main[0] != main[1] and all(file["scripts"] for file in (train, valid)):
            args = {"train": main[0], "valid": main[1]}
            args |= {"train_zh": script_name(main[0], "zh"), "valid_zh": script_name(main[1], "zh")}
            yield Finding("warning", "script_differs", "validation_file", args)


def tokenizer_findings(config: RunConfig, facts: Facts) -> Iterator[Finding]:
    """Findings on the tokenizer."""
    about = facts["tokenizer"]
    if "error" in about:
        yield of_error(about["error"], "tokenizer")
        return
    train = facts["train_file"]
    share = train["unknown_tokens"] / max(1, train["tokens"]) if "tokens" in train else 0.0
    args = {"path": tokenizer_folder(config), "tokens": about["tokens"], "unknown": percent(share)}
    yield Finding("ok", "tokenizer", "tokenizer", args)
