"""The end of a file that a process appends to."""

from pathlib import Path

import pytest

from engine.contract.messages import InputError
from sft_tui import tail
from sft_tui.tail import Tail


def test_new_lines_are_read_and_unchanged_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    found = Tail(path)
    assert not found.poll()
    path.write_text("one\ntwo\n")
    assert found.poll()
    assert list(found.lines) == ["one", "two"]
    assert not found.poll()
    with path.open("a") as file:
        file.write("three")
    assert found.poll()
    assert list(found.lines) == ["one", "two", "three"]
    assert not found.cut


def test_a_long_file_is_read_from_its_first_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "TAIL_BYTES", 100)
    path = tmp_path / "trainer.log"
    path.write_text("".join(f"line {number:03}\n" for number in range(50)))
    found = Tail(path)
    found.poll()
    assert found.cut
    assert found.lines == tuple(f"line {number:03}" for number in range(39, 50))


def test_lines_are_bounded_and_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "MOST_LINES", 3)
    path = tmp_path / "trainer.log"
    path.write_bytes(b"a\nb\nc\n 1 %\r 2 %\r\n\x1b[31mred\xff\n" + b"x" * 5000)
    found = Tail(path)
    found.poll()
    assert found.lines[0] == " 2 %"
    assert found.lines[1] == "␛[31mred\ufffd"
    assert len(found.lines[2]) == tail.LONGEST_LINE + 1
    assert found.cut


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_not_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trainer.log"
    if kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "other").write_text("secret")
        path.symlink_to(tmp_path / "other")
    with pytest.raises(InputError):
        Tail(path).poll()


def test_each_line_has_its_place_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "TAIL_BYTES", 60)
    path = tmp_path / "trainer.log"
    found = Tail(path)
    for number in range(30):
        with path.open("ab") as file:
            file.write(f"{number} é {'x' * (number % 7)}\n".encode())
        found.poll()
        whole = path.read_bytes()
        for line, begin in zip(found.lines, found.begins, strict=True):
            assert whole[begin:].startswith(f"{line}\n".encode())
            assert begin == 0 or whole[begin - 1 : begin] == b"\n"
