"""The title of the terminal's window."""

import pytest

from sft_tui.screen.window_title import LONGEST, POP, PUSH, WindowTitle


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("TERM", "xterm-256color")
    return []


def test_a_title_is_written_when_it_changes_and_restored_at_the_end(written: list[str]) -> None:
    title = WindowTitle(written.append)
    title.begin()
    for words in ("sft-small-2 93 %", "sft-small-2 93 %", "sft-small-2 94 %"):
        title.show(words)
    title.end(written.append)
    assert written == [
        PUSH, "\x1b]2;sft-tui\x1b\\",
        "\x1b]2;sft-tui: sft-small-2 93 %\x1b\\", "\x1b]2;sft-tui: sft-small-2 94 %\x1b\\",
        "\x1b]2;\x1b\\" + POP,
    ]  # fmt: skip
    title.end(written.append)
    assert len(written) == 5


def test_a_title_is_harmless_and_bounded(written: list[str]) -> None:
    WindowTitle(written.append).show("a\x1b]0;b\x07\n" + "x" * 300)
    assert written[0].removeprefix("\x1b]2;").removesuffix("\x1b\\").isprintable()
    assert len(written[0]) < LONGEST + 10


@pytest.mark.parametrize("term", ["linux", "dumb", "vt100", ""])
def test_a_terminal_without_a_window_gets_no_title(
    written: list[str], monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    title = WindowTitle(written.append)
    title.begin()
    title.show("x")
    title.end(written.append)
    assert written == []
