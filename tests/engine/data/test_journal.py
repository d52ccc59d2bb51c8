"""A killed import leaves files that are all old or all new, once the next command has settled what it left."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import override
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.requests import ImportRequest
from engine.data import journal
from engine.data.importing.convert import import_files, import_pairs
from engine.data.importing.targets import Target, replace_all, targets_of
from engine.data.parquet_rows import RowSource

CALLS = ("write", "fsync", "link", "rename", "unlink")


class Killed(BaseException):
    """The end of a process, after which none of its calls does anything."""


def staged(files: list[Path], old: list[Path]) -> list[Target]:
    """Targets with their new contents staged; `old` are the files that exist."""
    for path in files:
        path.parent.mkdir(exist_ok=True)
        for left in path.parent.iterdir():
            left.unlink()
    for path in old:
        path.write_text("old")
    return targets_of({str(number): str(path) for number, path in enumerate(files)}, [], overwrite=True)


def killed(act: Callable[[], None], number: int, after: bool) -> bool:
    """Acts, and dies before or after its call of that number, or half-way where it writes; whether it came so far."""
    count, dead = itertools.count(), False

    def dying(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            nonlocal dead
            if not dead and next(count) != number:
                return call(*args)
            try:
                if not dead and after:
                    call(*args)
                elif not dead and name == "write":
                    call(args[0], args[1][: len(args[1]) // 2])
            finally:  # also where the call itself fails
                dead = True
                raise Killed

        return counted

    with pytest.MonkeyPatch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, dying(name, getattr(os, name)))
        try:
            act()
        except Killed:
            return True
    return False


def no_links(*_: Any) -> None:
    """A file system that has none."""
    raise OSError(1, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("names", [("a/t", "b/v", "a/s"), ("b/t", "a/v", "c/s")])
def test_a_killed_import_leaves_all_files_old_or_all_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], links: bool
) -> None:
    files = [tmp_path / name for name in names]
    folders = sorted({path.parent for path in files})
    old, seen = (0,), set()
    monkeypatch.setattr(os, "fsync", lambda _fd: None)  # the disk's part, which takes nearly all of the time
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for number, after in ((call, late) for call in itertools.count() for late in (False, True)):
        targets = staged(files, [files[place] for place in old])
        for target in targets:
            target.staged.write_text("new")
        if not killed(partial(replace_all, targets), number, after):
            break
        order = files if number % 2 else files[::-1]
        killed(partial(journal.settle, order), number % 7, after)  # so is the first that puts it in order
        journal.settle(order)
        contents = ["old" if place in old else None for place in range(3)]
        found = [path.read_text() if path.exists() else None for path in files]
        assert found in (contents, ["new"] * 3), (number, after)
        seen.add(found == contents)
        left = {path.name for folder in folders for path in folder.iterdir()} - {path.name for path in files}
        # Before the journal is written, files that no name was given to are for the next import to remove.
        assert found == contents or not left
        assert not {name for name in left if name.endswith("-before") or name == journal.NAME}
    assert seen == {True, False}


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[Path]:
    """A folder with the journal of an import that was killed when the first of two files had its name."""
    files = [tmp_path / "t", tmp_path / "v"]
    for path in files:
        path.write_text("old")
    (tmp_path / "new").write_text("new")
    (tmp_path / journal.NAME).touch()
    journal.begin([(path, tmp_path / "new") for path in files])
    os.link(files[0], tmp_path / journal.before_name("t", os.getpid()))
    (tmp_path / "new").rename(files[0])
    yield tmp_path
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def run_reads(folder: Path) -> None:
    """A run, or a check of one, reads its training file."""
    RowSource.of(override(preset("sft-small").config, {"train_file": str(folder / "t")})[0], "train_file", "pairs")


def import_reads(folder: Path) -> None:
    """An import reads a file, and writes nothing."""
    with pytest.raises(InputError, match="no rows"):
        import_files(ImportRequest((str(folder / "t"),)), lambda *_: None)


def import_writes(folder: Path) -> None:
    """An import would write to a file that exists."""
    with pytest.raises(InputError, match="already exists"):
        import_pairs(ImportRequest((), train=str(folder / "v")), [("a", "b")])


@pytest.mark.parametrize("use", [run_reads, import_reads, import_writes])
def test_the_next_user_of_the_files_completes_the_import(cut_off: Path, use: Callable[[Path], None]) -> None:
    use(cut_off)
    assert (cut_off / "t").read_text() == "old"


def test_a_link_in_place_of_a_moved_file_stays(cut_off: Path) -> None:
    (cut_off / "t").unlink()
    (cut_off / "t").symlink_to("v")
    journal.settle([cut_off / "v"])
    assert (cut_off / "t").is_symlink()


def test_a_file_put_in_place_since_stays(cut_off: Path) -> None:
    (cut_off / "t").unlink()
    (cut_off / "t").write_text("mine")
    journal.settle([cut_off / "t"])
    assert (cut_off / "t").read_text() == "mine"


def test_two_recoveries_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "a" / "t", tmp_path / "b" / "v"]
    for path in files:
        path.parent.mkdir()
        path.write_text("new")
        path.with_name(journal.before_name(path.name, os.getpid())).write_text("old")
        (path.parent / journal.NAME).touch()
    journal.commit(journal.begin([(path, path) for path in files]))
    ask = journal._is_marked_done

    def meanwhile(folder: Path, said: journal.Journal) -> bool | None:
        monkeypatch.setattr(journal, "_is_marked_done", ask)
        journal.settle(files[:1])
        return ask(folder, said)

    monkeypatch.setattr(journal, "_is_marked_done", meanwhile)
    journal.settle(files[1:])
    assert [path.read_text() for path in files] == ["new", "new"]


def test_a_file_with_a_backup_like_name_is_no_part_of_an_import(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("t", "before-t", "t-1-before")]
    targets = staged(files, files)
    for target in targets:
        target.staged.write_text(target.path.name)
    replace_all(targets)
    assert [path.read_text() for path in files] == [path.name for path in files]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "", "a\0b", "\ud800", "x" * 300])
def test_a_journal_reaches_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    new = journal.Entry.of(outside, outside).new
    said = {"id": "x", "pid": 1, "folders": [str(folder)], "files": [{"name": name, "existed": False, "new": new}]}
    (folder / journal.NAME).write_text(json.dumps(said) + "\n")
    journal.settle([folder / "t"])
    assert outside.read_text() == "mine"
    assert not list(folder.iterdir())


def test_a_journal_does_not_affect_other_imports(tmp_path: Path) -> None:
    for name, folders in (("a", ["a", "b"]), ("b", ["b"])):
        (tmp_path / name).mkdir()
        said = {"id": "x", "pid": 1, "folders": [str(tmp_path / folder) for folder in folders], "files": []}
        (tmp_path / name / journal.NAME).write_text(json.dumps(said) + "\n" + ("done\n" if name == "a" else ""))
    before = (tmp_path / "b" / journal.NAME).read_bytes()
    journal.settle([tmp_path / "a" / "t"])
    assert (tmp_path / "b" / journal.NAME).read_bytes() == before


SAYS_NOTHING = ["", "{", "[]\n", '{"id": 1}\n', '{"pid": 1e999}\n', "null\ndone\n"]
WITHOUT = '{"id": "x", "pid": %s, "folders": [%s], "files": []}\n'


@pytest.mark.parametrize(
    "content", [*SAYS_NOTHING, WITHOUT % ("NaN", ""), WITHOUT % ("-1", ""), WITHOUT % ("1", '"\\ud800"')]
)
def test_an_empty_journal_is_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / journal.NAME).write_text(content)
    journal.settle([tmp_path / "t"])
    assert not list(tmp_path.iterdir())


def test_an_unwritable_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("{}\n")
    os.link(tmp_path / "other", tmp_path / journal.NAME)
    with pytest.raises(InputError) as refused:
        journal.settle([tmp_path / "t"])
    assert journal.NAME in refused.value.message.text()


def test_a_link_in_place_of_a_journal_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / journal.NAME).symlink_to("mine")
    journal.settle([tmp_path / "t"])
    with pytest.raises(OSError, match="link"), journal.held([tmp_path]):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_one_import_at_a_time_writes_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.1)
    with journal.held([tmp_path]), pytest.raises(InputError, match="Another import"), journal.held([tmp_path]):
        pass
    assert not list(tmp_path.iterdir())
