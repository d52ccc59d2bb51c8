"""A search in the whole log of a run, read from its stream in pieces: also in lines that a screen does not hold."""

import re
from collections.abc import Iterator

from engine.contract.events import Record, Step
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.contract.texts import Lang
from sft_tui import log_fold, runs
from sft_tui.event_text import lines, step_text
from sft_tui.log_lines import KIND_WITHIN, STEP, UNSHOWN, LineMaker, LogLine
from sft_tui.run_state import RunState, reduce

PIECE_BYTES = 512 << 10  # read at a time
READ_BYTES = 4 << 20  # the same, if nobody waits for a key
MOST_FOUND = 5000  # lines kept
A_STEP = Step(1, 1, 1, 1.0, 1.0, 1.0, 1, 1, 1, 0.0, 0.0, 0.0, 0, [])
NUMBER = rb"(-?\d{1,17}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?)"
FIELDS = re.compile(rb'"step":(\d{1,18}),"steps_total":(\d{1,18}),"loss":' + NUMBER + b',"lr":' + NUMBER + b",")
NOT_FINITE = "nan inf e"  # letters that numbers have


class LogSearch:
    """The lines of a run's log that have certain words and belong to a level, as far as `read` has got."""

    def __init__(self, run_dir: RunDir, words: str, level: str, lang: Lang) -> None:
        self._words, self._level = words, level
        self._steps = level == "all" and _can_be_in_a_step(words, lang)
        self._reader = EventReader(run_dir.events, wanted=self._wanted)
        self._until, self._offset = runs.log_bytes(run_dir), 0
        self._maker, self._state = LineMaker(lang), RunState()
        self.found: list[LogLine] = []

    @property
    def share(self) -> float:
        """The share of the log that was searched."""
        return min(1.0, self._offset / self._until) if self._until else 1.0

    @property
    def is_over(self) -> bool:
        """Whether all was searched, or as many lines were found as are kept."""
        return self.share >= 1 or len(self.found) >= MOST_FOUND

    def read(self) -> None:
        """Searches the next piece; raises InputError if the log cannot be read."""
        piece = min(PIECE_BYTES, self._until - self._offset)
        records = self._reader.poll(piece)
        self._offset += piece
        for record, begin in zip(records, self._reader.begins, strict=True):
            self.found += self._found_in(record, begin)
        del self.found[MOST_FOUND:]

    def _found_in(self, record: Record, begin: int) -> Iterator[LogLine]:
        if not isinstance(record.event, Step):
            self._state = reduce(self._state, record)
        for line in self._maker.lines(record, begin, self._state):
            if line.level in log_fold.LEVELS[self._level] and log_fold.has(line, self._words):
                yield line

    def _wanted(self, line: bytes) -> bool:
        head = line[:KIND_WITHIN]
        if STEP in head:
            return self._steps and _may_have(line, self._words)
        return not any(kind in head for kind in UNSHOWN)


def matching(run_dir: RunDir, words: str, level: str, lang: Lang) -> Iterator[tuple[int, LogLine]]:
    """All lines of the log that have the words and belong to a level, with their numbers in the log, from 1."""
    reader = EventReader(run_dir.events, wanted=lambda line: not any(kind in line[:KIND_WITHIN] for kind in UNSHOWN))
    maker, state, number = LineMaker(lang), RunState(), 0
    while records := reader.poll(READ_BYTES):
        for record, begin in zip(records, reader.begins, strict=True):
            if not isinstance(record.event, Step):
                state = reduce(state, record)
            for line in maker.lines(record, begin, state):
                number += 1
                if line.level in log_fold.LEVELS[level] and words.lower() in line.text.lower():
                    yield number, line


def _may_have(line: bytes, words: str) -> bool:
    """Whether a step's line of the stream has the words, without decoding it, which takes 30 times as long."""
    found = FIELDS.search(line)
    if found is None:
        return True
    step, total, loss, lr = found.groups()
    return words.lower() in step_text(int(step), int(total), float(loss), float(lr)).lower()


def _can_be_in_a_step(words: str, lang: Lang) -> bool:
    """Whether a step's line can have these words: most words have letters that it does not, so it need not be read."""
    shown = " ".join([NOT_FINITE, *(line.text for line in lines(A_STEP, RunState(), lang))]).lower()
    return all(letters in shown for letters in re.findall(r"[^\W\d_]+", words.lower()))
