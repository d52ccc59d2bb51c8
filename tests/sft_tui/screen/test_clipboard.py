"""What is copied."""

from pathlib import Path

from tests.terminal import terminal


def test_a_copy_goes_to_the_clipboard_and_to_a_file(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1") as app:
        app.sees("Evaluated m on 3 rows")
        app.press("y")
        app.until(lambda: b"\x1b]52;c;" in app.raw)
        (file,) = logs.glob("copied-*.txt")
        assert "Evaluated m on 3 rows" in file.read_text()
        app.press("q")
