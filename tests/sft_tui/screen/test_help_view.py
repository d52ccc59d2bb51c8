"""The help."""

from sft_tui.screen import help_view
from tests.sft_tui.screen.conftest import (
    plain,
)


def test_help_can_be_paged_to_its_last_line() -> None:
    shown = plain(help_view.draw("runs", "en", 80, 12, 999))
    assert "Leave the screen" in shown
