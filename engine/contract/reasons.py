"""Why rows and records cannot be used: codes, counted by the engine and put into words for the reader.

A reason is a code, or `code:detail` if a name from the file belongs to it: `unknown_role:tool`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from engine.contract.texts import Lang


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
    "prompt_not_text": Reason("prompt is not text: {detail}", "提问不是文本：{detail}"),
    "response_not_text": Reason("response is not text: {detail}", "回答不是文本：{detail}"),
    # what a file holds
    "json_broken": Reason("broken JSON", "JSON 有误"),
    "json_open": Reason("an array does not end: the file may be cut short", "数组没有结束：文件可能不完整"),
    "key_repeated": Reason("the key {detail} comes twice with different values", "键 {detail} 重复且取值不同"),
    "record_long": Reason("longer than a record may be", "单条记录过长"),
    "quote_stray": Reason("a quote that does not open or close a field", "引号位置有误或没有闭合"),
    "field_count": Reason("another number of fields than the header has ({detail})", "字段数与表头不符（{detail}）"),
    "row_not_utf8": Reason("text that is not UTF-8", "文本不是 UTF-8"),
    "comment_line": Reason("a comment, not a record", "注释行，不是数据"),
    "column_repeated": Reason("the column {detail} comes more than once", "列 {detail} 重复出现"),
    "other_split": Reason("of another split: {detail}", "属于另一划分：{detail}"),
    # files of a folder
    "hidden": Reason("a hidden file", "隐藏文件"),
    "metadata": Reason("a description of the data set", "数据集的说明文件"),
    "not_plain": Reason("no plain file", "不是普通文件"),
    "empty": Reason("an empty file", "空文件"),
    "other_name": Reason("by its name no file of rows", "从文件名看不是数据文件"),
    "not_listed": Reason("not listed in state.json", "未列入 state.json"),
    "foreign": Reason("no rows are read from {detail}", "无法从 {detail} 读取数据"),
    # shapes of records
    "not_object": Reason("not an object", "不是 JSON 对象"),
    "table_not_record": Reason(
        "a whole table in one object (pandas: orient {detail}), not a record",
        "一个对象装下了整张表（pandas 的 orient {detail}），不是一条数据",
    ),
    "no_known_columns": Reason("no known columns among {detail}", "其中没有可识别的列：{detail}"),
    "column_missing": Reason("no column {detail}", "没有 {detail} 列"),
    "columns_ambiguous": Reason(
        "columns of one meaning with different contents: {detail}", "含义相同而内容不同的列：{detail}"
    ),
    "column_beyond_text": Reason("column {detail}: only text can be learned from", "{detail} 列：只能学习文本"),
    "column_not_list": Reason("column {detail} is not a list", "{detail} 列不是列表"),
    "turns_elsewhere": Reason(
        "column {detail} does not say where the turns of the prompt begin", "{detail} 列与提问中各轮的起始位置不符"
    ),
    "turn_not_object": Reason("a turn is not an object", "对话中有一项不是 JSON 对象"),
    "turn_without_role": Reason("a turn without a role, with {detail}", "对话中有一项没有角色，只有 {detail}"),
    "turn_part": Reason("a turn with a part that is not text: {detail}", "对话中含有非文本内容：{detail}"),
    "turn_calls_tools": Reason("a turn that calls tools ({detail})", "对话中有工具调用（{detail}）"),
    "turn_not_text": Reason("a turn is not text: {detail}", "对话中有一项不是文本：{detail}"),
    "turn_not_utf8": Reason("a turn is not UTF-8", "对话中有一项不是 UTF-8"),
    "unknown_role": Reason("unknown role {detail}", "未知角色 {detail}"),
    "role_of_tools": Reason(
        "role {detail}: conversations with tools are not supported", "角色 {detail}：不支持带工具的对话"
    ),
    "answer_unwanted": Reason(
        "{detail} is false: the answer is an example of what not to say", "{detail} 为 false：该回答是反面例子"
    ),
    "answer_is_number": Reason(
        "{detail} is the number of an option, from 0 or from 1", "{detail} 是选项的序号，不知从 0 还是从 1 数起"
    ),
    "options_unclear": Reason(
        "column {detail}: options that are neither a list nor under letters", "{detail} 列：选项既不是列表，也没有字母"
    ),
    "message_tree": Reason(
        "messages with replies ({detail}), not one conversation", "是带回复的消息（{detail}），不是一段对话"
    ),
    "no_answer": Reason("no question with an answer", "没有成对的提问和回答"),
    # what was left out of records that are used
    "question_unanswered": Reason("a question without an answer is left out", "没有回答的提问被略去"),
    "turn_empty": Reason(
        "a conversation ends at an empty turn; later turns are left out", "对话在空的一项处结束，其后的被略去"
    ),
    "answer_first": Reason(
        "a conversation begins with an answer, which only stands before later questions",
        "对话以回答开头，该回答只出现在后面的提问之前",
    ),
    "answer_unlearned": Reason("an answer is marked as not to be learned", "回答被标记为不学习"),
    "answers_further": Reason("more than one answer; the first is taken", "有多个回答，取第一个"),
    "thoughts_left_out": Reason("an answer's reasoning is left out", "回答的思考过程被略去"),
    "number_as_text": Reason("a number is taken as text", "数字按文本处理"),
}


def reason_in(reason: str, lang: "Lang") -> str:
    """A reason in words; a reason from another version is returned as it is."""
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
