"""Why rows and records cannot be used: codes, counted by the engine and put into words for whoever reads.

A reason is a code, or `code:detail` where a name out of the file belongs to it: `unknown_role:tool`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from engine.contract.messages import Lang


class Reason(NamedTuple):
    """A reason in both languages; `{detail}` stands for the name that belongs to it."""

    en: str
    zh: str


REASONS: dict[str, Reason] = {
    # texts
    "prompt_null": Reason("prompt is null", "提问为空值"),
    "response_null": Reason("response is null", "回答为空值"),
    "prompt_not_utf8": Reason("prompt is not UTF-8", "提问不是 UTF-8"),
    "response_not_utf8": Reason("response is not UTF-8", "回答不是 UTF-8"),
    "prompt_empty": Reason("prompt is empty", "提问为空"),
    "response_empty": Reason("response is empty", "回答为空"),
    "prompt_not_text": Reason("prompt is not text", "提问不是文本"),
    "response_not_text": Reason("response is not text", "回答不是文本"),
    # what a file holds
    "json_broken": Reason("broken JSON", "JSON 有误"),
    "csv_broken": Reason("broken CSV", "CSV 有误"),
    # shapes of records
    "not_object": Reason("not an object", "不是 JSON 对象"),
    "no_known_columns": Reason("no known columns among {detail}", "其中没有可识别的列：{detail}"),
    "column_missing": Reason("no column {detail}", "没有 {detail} 列"),
    "turn_not_object": Reason("a turn is not an object", "对话中有一项不是 JSON 对象"),
    "unknown_role": Reason("unknown role {detail}", "未知角色 {detail}"),
    "no_answer": Reason("no question with an answer", "没有成对的提问和回答"),
}


def reason_in(reason: str, lang: "Lang") -> str:
    """A reason in words; one of another version stays as it is."""
    code, _, detail = reason.partition(":")
    known = REASONS.get(code)
    if known is None:
        return reason
    return (known.zh if lang == "zh" else known.en).replace("{detail}", detail.strip() or "-")


def counted(counts: Mapping[str, int]) -> dict[str, str]:
    """Reasons with their counts as the arguments `reasons` and `reasons_zh` of a message, most frequent first."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "reasons": ", ".join(f"{reason_in(reason, 'en')}: {count}" for reason, count in ordered),
        "reasons_zh": "，".join(f"{reason_in(reason, 'zh')}：{count}" for reason, count in ordered),
    }
