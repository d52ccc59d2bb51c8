"""The conversations of a chat as lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.conversing import Replied
from engine.contract.messages import Message
from sft_tui.chat_model import ChatState, Exchange
from sft_tui.screen import chat_view
from sft_tui.screen.chat_view import ChatView
from sft_tui.wrapping import NEVER_FIRST
from tests.sft_tui.screen.conftest import HEIGHTS, WIDTHS, exact, plain

TEXTS = st.text(st.sampled_from("ab c。，（）“你好\n\t\x1b[]\u202e—.!?é"), max_size=200)
REPLIED = st.builds(Replied, TEXTS, st.sampled_from(["end", "length", "stopped"]), st.integers(0, 99), st.just(0.5))
EXCHANGES = st.builds(
    Exchange, TEXTS, TEXTS, st.none() | REPLIED, st.none() | st.just(Message("prompt_not_text", {"number": 1}))
)
STATES = st.builds(
    ChatState,
    TEXTS,
    st.sampled_from(["waiting", "loading", "ready", "replying", "ended"]),
    st.lists(EXCHANGES, max_size=5).map(tuple),
    st.none() | st.just(Message("conversation_ended", {"why": "SIGKILL\x1b[31m"})),
    st.integers(0, 10**12),
    st.none() | REPLIED,
)
SAID = "Restart your router, and check the cables. " * 4
HAN = "一般没有危险，穿刺时会避开大的血管。“请遵医嘱”（必要时复查）！" * 4


def state(*replies: str, name: str = "base", **more: object) -> ChatState:
    """A conversation with these replies."""
    turns = tuple(Exchange(f"question {at}", one, Replied(one, "end", 9, 0.5)) for at, one in enumerate(replies))
    return ChatState(name, "ready", turns, **more)  # type: ignore[arg-type]


def text(view: ChatView, width: int = 80, height: int = 20) -> str:
    """What is shown, as text."""
    return plain(chat_view.draw(view, width, height))


@settings(max_examples=25, deadline=None)
@given(st.lists(STATES, max_size=2), WIDTHS, HEIGHTS, st.none() | st.integers(-3, 99), st.sampled_from(["en", "zh"]))
def test_any_conversation_has_the_size_of_the_screen(
    states: list[ChatState], width: int, height: int, top: int | None, lang: str
) -> None:
    view = ChatView(tuple(states), (top, None), lang)  # type: ignore[arg-type]
    lines = chat_view.draw(view, width, height)
    exact(lines, width, height)
    assert "\x1b" not in plain(lines)
    for place in range(len(states)):
        moved = chat_view.moved(view, place, -5, width, height)
        assert moved is None or moved >= 0


@pytest.mark.parametrize("width", range(10, 60, 7))
@pytest.mark.parametrize("said", [SAID, HAN], ids=["English", "Chinese"])
def test_punctuation_is_never_first_on_a_line(said: str, width: int) -> None:
    lines = chat_view.paragraphs(said, width)
    assert not [line for line in lines if line.strip()[0] in NEVER_FIRST]
    assert "".join("".join(lines).split()) == "".join(said.split())


def test_two_models_stand_next_to_each_other() -> None:
    took = Replied("b", "end", 12, 0.5)
    both = (state("a", name="smollm2"), state("b", name="mine-3", memory=412_000_000, last=took))
    first = text(ChatView(both, (None, None))).splitlines()[0]
    assert "smollm2" in first
    assert "mine-3" in first
    assert "412.00 MB · 24.0 tok/s" in first


def test_the_newest_lines_are_followed_unless_one_scrolled_back() -> None:
    view = ChatView((state(*"abcdefghij"),), (None,))
    assert "question 9" in text(view, 60, 10)
    assert "question 0" not in text(view, 60, 10)
    top = chat_view.moved(view, 0, -1000, 60, 10)
    assert top == 0
    assert "question 0" in text(ChatView(view.models, (top,)), 60, 10)
    assert chat_view.moved(ChatView(view.models, (top,)), 0, 1000, 60, 10) is None


def test_a_reply_keeps_its_paragraphs_and_is_harmless() -> None:
    shown = text(ChatView((state("one\n\n  two\x1b[2J\u202e"),), (None,)))
    assert "one" in shown
    assert "  two␛[2J" in shown
    assert "\x1b" not in shown


def test_how_a_reply_ended_is_said_below_it() -> None:
    turns = (
        Exchange("a", "b", Replied("b", "length", 256, 1)),
        Exchange("c", "d", Replied("d", "stopped", 3, 1, left_out=2, cut=True)),
        Exchange("e", "", Replied("", "end", 1, 1)),
        Exchange("f", refused=Message("prompt_not_text", {"number": 1})),
    )
    shown = text(ChatView((ChatState("m", "ready", turns),), (None,)), 100, 30)
    for words in (
        "cut at 256 token(s)".replace("(s)", "s"),
        "stopped after 3",
        "2 turns no longer fit",
        "an empty reply",
    ):
        assert words in shown
    assert "not text" in shown


def test_a_reply_under_way_and_a_model_that_ended_look_different() -> None:
    waiting = ChatState("m", "replying", (Exchange("a"),))
    assert "…" in text(ChatView((waiting,), (None,)))
    ended = ChatState("m", "ended", (Exchange("a"),), Message("conversation_ended", {"why": "SIGKILL"}))
    shown = text(ChatView((ended,), (None,)))
    assert "SIGKILL" in shown
    assert "ctrl+r" in shown


@pytest.mark.parametrize(("x", "y", "place"), [(0, 0, 0), (39, 19, 0), (40, 0, 1), (79, 19, 1)])
def test_the_wheel_finds_the_conversation_under_it(x: int, y: int, place: int) -> None:
    assert chat_view.place_at(2, 80, 20, x, y) == place
    assert chat_view.place_at(2, 50, 20, 0, y) == (y >= 10)
