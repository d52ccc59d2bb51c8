"""A benchmark of an hour loses no figures: not to a contestant that fails, nor to an end before its time."""

from pathlib import Path

from bench.chat_found import Figures, Found

ABOUT = {"machine": "two cores"}


def fails() -> Figures:
    raise RuntimeError("no memory\nand a page of log")


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "chat.jsonl"
    found = Found.resumed(file, ABOUT)
    assert found.take("ours", 0, lambda: {"rate": 2.0})
    assert not found.take("theirs", 0, fails)
    with file.open("a") as killed:
        killed.write('{"name": "half')
    again = Found.resumed(file, ABOUT)
    assert again.take("ours", 0, fails)
    assert again.take("theirs", 0, lambda: {"rate": 1.0})
    assert again.take("ours", 1, lambda: {"rate": 6.0})
    assert (again.median("ours", "rate"), again.over("rate", "ours", "theirs")) == (4.0, [2.0])
    assert found.failed == {"theirs": {0: "RuntimeError: no memory\nand a page of log"}}
    assert Found.resumed(file, ABOUT).taken == again.taken


def test_figures_of_another_machine_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    Found.resumed(file, ABOUT).take("ours", 0, lambda: {"rate": 2.0})
    assert Found.resumed(file, {"machine": "four cores"}).taken == {}
    assert len(list(tmp_path.iterdir())) == 2
