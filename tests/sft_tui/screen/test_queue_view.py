"""The screen of the queue at every size."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.messages import Message
from engine.contract.texts import Lang
from sft_tui.queue import entries
from sft_tui.queue.entries import Queue
from sft_tui.screen import queue_view
from sft_tui.screen.queue_view import QueueView
from tests.sft_tui.screen.conftest import HEIGHTS, SIZES, WIDTHS, exact, plain, same_as_kept

CHECK = Message.of("queue_check", errors=2, found="The training file x is missing.", found_zh="找不到训练文件 x。")


def queue_screen(lang: Lang = "en", *, paused: bool = False) -> QueueView:
    queue = Queue()
    for name, values in (
        ("sft-small", {"epochs": 5}),
        ("sft-small", {"learn_rate": 3e-5, "train_file": "data/训练.parquet"}),
        ("pretrain", {}),
        ("sft", {"epochs": 2, "batch_size_per_gpu": 4, "output_dir": "model_save/second"}),
        ("sft-small", {"epochs": 9}),
    ):
        queue = entries.added(queue, name, values, based_on="sft-small-1" if len(values) == 3 else "")
    queue = entries.changed(queue, 1, state="done", ended="finished", run="sft-small-2")
    queue = entries.changed(queue, 2, state="refused", message=CHECK)
    queue = entries.changed(queue, 3, state="running", run="pretrain-1")
    if paused:
        queue = entries.with_pause(queue, Message.of("queue_run_stopped", run="sft-small-2"))
    return QueueView(queue, chosen=4, progress="pretrain-1 running · 12/100", lang=lang)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_screen_looks_as_it_was_kept(lang: Lang, width: int, height: int) -> None:
    view = queue_screen(lang, paused=width < 100)
    same_as_kept(f"queue-{lang}-{width}x{height}", queue_view.draw(view, width, height))


def test_the_entry_under_the_cursor_is_explained() -> None:
    shown = plain(queue_view.draw(replace(queue_screen(), chosen=2), 120, 40))
    assert "The training file x is missing." in shown
    assert "learn_rate=3e-05" in shown
    assert "12/100" in plain(queue_view.draw(replace(queue_screen(), chosen=3), 120, 40))


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (queue_screen(paused=True), "p continues it"),
        (replace(queue_screen(), alive=False), "p twice starts it"),
        (QueueView(wrong=[Message.of("queue_damaged", path="logs/queue/queue.json", why="y")]), "is damaged: y"),
        (QueueView(), "Nothing is in the queue."),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(view: QueueView, said: str) -> None:
    assert said in plain(queue_view.draw(view, 120, 40))


def test_nothing_is_said_of_a_queue_that_was_not_looked_at() -> None:
    unread, read = (plain(queue_view.draw(QueueView(read=known), 80, 23)) for known in (False, True))
    assert "reading" in unread
    assert "Nothing is in the queue" not in unread
    assert "Nothing is in the queue" in read


def test_other_screens_say_how_many_wait() -> None:
    assert queue_view.summary(Queue(), "en") == ""
    assert queue_view.summary(queue_screen().queue, "en") == "queue: 2 waiting"
    assert queue_view.summary(queue_screen("zh", paused=True).queue, "zh") == "队列：等待 2 个，已暂停"


def test_a_click_finds_the_entry_of_its_line() -> None:
    for view in (queue_screen(), queue_screen(paused=True)):
        lines = plain(queue_view.draw(view, 100, 30)).splitlines()
        at = next(y for y, line in enumerate(lines) if "pretrain-1" in line)
        assert queue_view.entry_at(view, 100, 30, at) == 3
        assert queue_view.entry_at(view, 100, 30, 29) == 0


@settings(max_examples=25, deadline=None)
@given(WIDTHS, HEIGHTS, st.sampled_from(["en", "zh"]), st.integers(0, 6), st.booleans(), st.booleans())
def test_it_fits_every_size(width: int, height: int, lang: Lang, chosen: int, paused: bool, damaged: bool) -> None:
    wrong = [Message.of("queue_damaged", path="x" * 90, why="y" * 200)] * damaged
    view = replace(queue_screen(lang, paused=paused), chosen=chosen, wrong=wrong)
    exact(queue_view.draw(view, width, height), width, height)
    assert queue_view.entry_at(view, width, height, height // 2) >= 0
