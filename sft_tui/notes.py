"""What the user notes about a run: a text and tags, in a small file in the run's folder."""

import re
from dataclasses import dataclass, field
from typing import Annotated

from engine.contract.bounds import Longest, as_json
from engine.contract.durable import read_json_as, write_json
from engine.contract.files import reason
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir

LONGEST_TEXT, LONGEST_TAG, MOST_TAGS = 2000, 40, 16
TAG = re.compile(rf"[^\W_][\w.+-]{{,{LONGEST_TAG - 1}}}")


@dataclass(frozen=True)
class Note:
    """A note about a run, and its tags in the order in which they were given."""

    text: Annotated[str, Longest(LONGEST_TEXT)] = ""
    tags: Annotated[list[Annotated[str, Longest(LONGEST_TAG)]], Longest(MOST_TAGS)] = field(default_factory=list)

    def line(self) -> str:
        """The note on one line as `parse` reads it: the text, then each tag after a `#`."""
        return " ".join([*([self.text] if self.text else []), *(f"#{tag}" for tag in self.tags)])


def read(run_dir: RunDir) -> Note:
    """The note about a run; an empty one if there is none or if it cannot be read."""
    return read_json_as(Note, run_dir.note)


def parse(line: str) -> Note:
    """A note as typed on one line, in which each `#word` is a tag; raises InputError."""
    words = line.split()
    tags = [word[1:] for word in words if word.startswith("#") and len(word) > 1]
    return checked(" ".join(word for word in words if not word.startswith("#") or len(word) == 1), tags)


def checked(text: str, tags: list[str]) -> Note:
    """The note with this text and these tags, each once; raises InputError."""
    once = list(dict.fromkeys(tags))
    if len(text) > LONGEST_TEXT:
        raise InputError("note_long", most=f"{LONGEST_TEXT:,}", length=f"{len(text):,}")
    if len(once) > MOST_TAGS:
        raise InputError("note_tags", most=MOST_TAGS)
    for tag in once:
        if not TAG.fullmatch(tag):
            raise InputError("note_tag_bad", tag=tag[: 2 * LONGEST_TAG], most=LONGEST_TAG)
    return Note(text, once)


def write(run_dir: RunDir, note: Note) -> None:
    """Writes the note about a run, or removes the file of an empty one; raises InputError."""
    try:
        if note == Note():
            run_dir.note.unlink(missing_ok=True)
        else:
            write_json(run_dir.note, as_json(note))
    except OSError as error:
        raise InputError("folder_unwritable", path=str(run_dir.path), setting="logs", why=reason(error)) from None
