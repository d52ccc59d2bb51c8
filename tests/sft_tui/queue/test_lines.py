"""A queue as text."""

from engine.contract.messages import Message
from engine.contract.texts import LANGS
from sft_tui.queue import entries, lines
from sft_tui.queue.entries import Queue
from sft_tui.text import width


def some() -> Queue:
    queue = entries.added(Queue(), "sft-small", {"epochs": 2, "output_dir": "a\x1b[2J"}, based_on="sft-small-1")
    queue = entries.changed(entries.added(queue, "sft", {}), 2, state="done", ended="out_of_memory", run="sft-3")
    message = Message.of("queue_check", errors=2, found="No such file.", found_zh="没有文件。")
    return entries.changed(entries.added(queue, "pretrain", {}), 3, state="refused", message=message)


def test_a_line_says_what_an_entry_is_and_what_became_of_it() -> None:
    head, *rows = lines.table(some(), "en")
    assert head.split()[:3] == ["NO.", "STATE", "PRESET"]
    assert rows[0].split()[:3] == ["1", "waiting", "sft-small"]
    assert "epochs=2" in rows[0]
    assert "from sft-small-1" in rows[0]
    assert "out of memory" in rows[1]
    assert "sft-3" in rows[1]
    assert "The check found 2 errors. The first: No such file." in rows[2]
    assert "没有文件。" in lines.table(some(), "zh")[3]


def test_an_entry_whose_run_has_no_end_does_not_look_finished() -> None:
    queue = entries.changed(some(), 2, ended="")
    assert [lines.state_name(queue.entry(2), lang) for lang in LANGS] == ["end unknown", "结束状态未知"]


def test_foreign_text_is_harmless_and_lines_fit() -> None:
    assert "\x1b" not in "".join(lines.table(some(), "en"))
    assert max(map(width, lines.table(some(), "zh", 60))) <= 60


def test_its_state_is_one_line() -> None:
    queue = some()
    assert lines.state(Queue(), "en") == "Nothing is waiting."
    assert lines.state(queue, "en") == "1 waiting."
    assert lines.state(entries.changed(queue, 2, state="running"), "en") == "sft-3 is running; 1 waiting."
    checked = entries.changed(queue, 2, state="checking")
    assert lines.state(checked, "en") == "sft is being checked; 1 waiting."
    assert lines.state_short(checked, "en") == "1 waiting"
    assert "sft-tui queue resume" in lines.state(entries.with_pause(queue), "en")
    stopped = entries.with_pause(queue, Message.of("queue_run_stopped", run="sft-3"))
    assert "when sft-3 was stopped" in lines.state(stopped, "en")
    assert lines.state_short(stopped, "zh") == "等待 1 个 · 已暂停"
