"""JSON in any layout: objects one per line or across lines, in arrays, in lists inside an object, concatenated.

The file is cut into objects by its brackets and quotes, one at a time, and each is decoded separately, so that a
broken one costs only itself: reading continues where the next one begins. ijson was tried and is not used: its C
parser turns lone surrogates into question marks, refuses the NaN that Python writes and integers beyond 64 bits, and
cannot continue after an error.
"""

import json
import re
from collections.abc import Container, Iterator
from typing import Any, TextIO

from engine.data.importing.text_stream import CHUNK, LONGEST_RECORD
from engine.data.shapes.account import FileAccount, ImportNotice, RefusedError
from engine.data.shapes.orient import orient_of

BLANK = "\ufeff \t\r\n"
WRAPPER = 1 << 20  # characters up to which an object is read whole before it counts as a list of records
INDENT = 200  # characters of a line that are kept
DEEPEST, ARRAYS = 200, 20  # brackets in a record, and arrays around records
TOKEN = re.compile(r'"(?:[^"\\\r\n]++|\\.)*+"|["\[\]{}]')  # a string ends on its line
KEY = re.compile(r'"((?:[^"\\\r\n]++|\\.)*+)"\s*:\s*\Z')
FIRST_KEY = re.compile(r'\{\s*"(?:[^"\\\r\n]++|\\.)*+"')
SCALAR = re.compile(r'"(?:[^"\\\r\n]++|\\.)*+"|-?\d[\d.eE+-]*|-?[A-Za-z]+')
BETWEEN = re.compile(rf"[,\s{BLANK}]*")
COMMENT = re.compile(r"//|#|/\*")
LINE_END, NEXT_THING = re.compile(r"[\r\n]"), re.compile(r"[\r\n{\[\]]")
NEXT_OBJECT = r"(?<=\})\s*,\s*\{"
SPLITS = {"validation", "valid", "val", "dev", "eval", "test"}
# Keys under which an object holds a list of records; its other members describe them.
LISTS = {"data", "rows", "records", "examples", "samples", "instances", "items", "dataset", "train", *SPLITS}
Item = tuple[str, Any]  # place of a record, and the record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise RefusedError("key_repeated", key)
    return found


_decode = json.JSONDecoder(object_pairs_hook=_object).decode


def _decoded(text: str) -> Any:
    """The decoded value of a text; raises RefusedError."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        raise RefusedError("json_broken") from None


def _are_objects(entries: Any) -> bool:
    return isinstance(entries, list) and bool(entries) and all(isinstance(entry, dict) for entry in entries)


class JsonFile:
    """The records of a JSON file; `known` are the keys known to any shape of record."""

    def __init__(self, file: TextIO, known: Container[object], account: FileAccount) -> None:
        self._read, self._known, self._account = file.readline, known, account
        self._window, self._at, self._before = "", 0, ""  # `_before`: the start of the window's first line
        self._line, self._first = 1, (0, 0)  # line of `_at`; line of the last record, and how many began on it
        self._lead = ""  # how the last valid record begins: its bracket and first key
        self._around: list[tuple[str, int]] = []  # brackets open around the records, and their lines

    def records(self) -> Iterator[Item]:
        """The records, or in place of a broken one its error."""
        while self._next():
            yield from self._from_line()
            while self._at < len(self._window):
                yield from self._step()
        for bracket, line in self._around[:1]:
            yield str(line), ImportNotice("json_open", bracket)

    def _next(self) -> bool:
        self._at = len(self._window)
        return self._more()

    def _more(self) -> bool:
        more = self._read(max(CHUNK, len(self._window) - self._at))  # doubled, or long records are scanned too often
        self._before = self._line_so_far()
        self._window = self._window[self._at :] + more
        self._at = 0
        return bool(more)

    def _line_so_far(self) -> str:
        """The text before `_at` on its line; only its end, if that is long."""
        said = self._before + self._window[max(0, self._at - INDENT) : self._at]
        return said[max(said.rfind("\n"), said.rfind("\r")) + 1 :][-INDENT:]

    def _advance(self, to: int) -> None:
        part = self._window[self._at : to]
        self._line += part.count("\n") or part.count("\r")
        self._at = to

    def _place(self) -> str:
        line, count = self._first
        self._first = (self._line, count + 1 if line == self._line else 1)
        return f"{self._line}" if self._first[1] == 1 else f"{self._line}#{self._first[1]}"

    def _from_line(self) -> Iterator[Item]:
        """The record of a line that consists of exactly one object."""
        if self._around and self._around[-1][0] == "{":
            return
        text = self._window.strip(BLANK)
        if not text.startswith("{") or not text.endswith(("}", "},")):
            return
        try:
            value = _decoded(text.removesuffix(","))
        except RefusedError:  # perhaps only one of the records in it is bad
            return
        self._account.format = self._account.format or ("jsonl" if not self._around else "json")
        yield from self._members(value, self._place())
        self._advance(len(self._window))

    def _step(self) -> Iterator[Item]:
        """One item between records: an object, a bracket, or something that should not be there."""
        between = BETWEEN.match(self._window, self._at)
        self._advance(between.end() if between else self._at)
        char = self._window[self._at : self._at + 1]
        inside = self._around[-1][0] if self._around else ""
        if char == "{":
            yield from self._record()
        elif char == "[" and len(self._around) < ARRAYS:
            self._account.format = "json"
            self._around.append((char, self._line))
            self._advance(self._at + 1)
        elif char and char == {"[": "]", "{": "}"}.get(inside):
            self._around.pop()
            self._advance(self._at + 1)
        elif char:
            yield from self._other(inside)

    def _other(self, inside: str) -> Iterator[Item]:
        """Anything but an object: a comment, a bare value, a key of an object around records, or something invalid."""
        if COMMENT.match(self._window, self._at):
            yield self._place(), ImportNotice("comment_line")
            self._skip(LINE_END)
            return
        short = len(self._window) - self._at < CHUNK
        if short and not self._window.endswith(("\n", "\r")) and self._more():  # it may be truncated
            return
        scalar = SCALAR.match(self._window, self._at)
        if inside == "{":
            self._advance(scalar.end() if scalar else self._at + 1)
        elif scalar:
            yield self._place(), RefusedError("not_object")
            self._advance(scalar.end())
        else:
            yield self._place(), RefusedError("json_broken")
            if self._window[self._at] == "[":  # nested too deeply
                self._around = [entry for entry in self._around if entry[1] < self._line]
                self._skip(LINE_END)
            else:
                self._skip(NEXT_THING)

    def _skip(self, to: re.Pattern[str]) -> None:
        """Skips past the next line end or to the next bracket, whichever `to` finds first."""
        end = to.search(self._window, self._at + 1)
        while end is None and self._next():
            end = to.search(self._window)
        if end is None:
            self._advance(len(self._window))
        else:
            self._advance(end.end() if end[0] in "\r\n" else end.start())

    def _record(self) -> Iterator[Item]:
        """The object that begins here."""
        place, beginning = self._place(), self._line
        before = self._line_so_far()
        end, members, refused = self._measured()
        if end:
            text = self._window[self._at : end]
            try:
                value = _decoded(text)
            except RefusedError as error:
                refused = error
            else:
                yield from self._whole(text, value, place)
                self._advance(end)
                return
        if members:
            self._account.format = "json"
            self._first = (0, 0)
            self._around += [("{", beginning), ("[", beginning)]
            self._advance(self._at + members)
            return
        yield place, refused
        if end:
            self._advance(end)
        else:
            self._resume(before)

    def _whole(self, text: str, value: dict[str, Any], place: str) -> Iterator[Item]:
        self._account.format = self._account.format or ("jsonl" if text.isprintable() else "json")
        if self._around and self._around[-1][0] == "{":  # a value of an object around records
            return
        lead = FIRST_KEY.match(text)
        self._lead = lead[0] if lead else self._lead
        yield from self._members(value, place)

    def _measured(self) -> tuple[int, int, RefusedError | None]:
        """Where the object ends, the offset at which a list of objects in it begins, and what is wrong with it.

        The end is 0 if something is wrong, and for an object with a list that is too long to be one record.
        """
        at, open_, members = self._at, "", 0
        while True:
            token = TOKEN.search(self._window, at)
            start = token.start() if token else len(self._window)
            bare = token is not None and token[0] == '"'
            if token is None or (bare and not LINE_END.search(self._window, start)):
                offset = start - self._at
                long = len(self._window) - self._at > LONGEST_RECORD
                if long or not self._more():
                    return 0, members, RefusedError("record_long" if long else "json_broken")
                at = self._at + offset
                continue
            at = token.end()
            if bare or not self._is_bracket_allowed(open_, token[0], start):
                return 0, members, RefusedError("json_broken")
            if token[0] in "{[":
                open_ += token[0]
                if open_ == "{[" and not members and self._lists_objects(start):
                    members = at - self._at
            elif token[0] in "}]":
                open_ = open_[:-1]
                if not open_:
                    return at, members, None
            if at - self._at > (WRAPPER if members else LONGEST_RECORD):
                return 0, members, RefusedError("record_long")

    def _is_bracket_allowed(self, open_: str, token: str, start: int) -> bool:
        """Whether a bracket may appear here, given the open brackets."""
        if token in "}]":
            return open_[-1:] + token in ("{}", "[]")
        if token not in "{[" or not open_:
            return True
        before = start - 1
        while self._window[before] in " \t\r\n":
            before -= 1
        return len(open_) < DEEPEST and self._window[before] in {"{": ":", "[": "[,"}[open_[-1]]

    def _lists_objects(self, start: int) -> bool:
        """Whether the list that begins here is a list of records."""
        key = KEY.search(self._window, max(self._at, start - INDENT), start)
        following = self._window[start + 1 : start + INDENT].lstrip()
        return following[:1] in ("{", "") and key is not None and key[1] in LISTS

    def _members(self, value: dict[str, Any], place: str) -> Iterator[Item]:
        """The record itself, or the records listed in an object that is not a record."""
        lists = {key: entries for key, entries in value.items() if key in LISTS and _are_objects(entries)}
        if self._around or not lists or any(key in self._known and key not in LISTS for key in value):
            orient = orient_of(value)
            yield place, RefusedError("table_not_record", orient) if orient else value
            return
        self._account.format = "json"
        for key, entries in lists.items():
            other = "train" in lists and key in SPLITS
            for number, entry in enumerate(entries, 1):
                where = f"{place}#{key}.{number}"
                yield where, RefusedError("other_split", key) if other else entry

    def _resume(self, before: str) -> None:
        """Continues at the next record after a broken one; `before` is the text before the broken one on its line."""
        start, where = self._at + 1, r"[ \t]*[{\[\]]"
        if before.strip(BLANK) == "":
            indent = before.strip("\ufeff")
            where = rf"(?:{re.escape(indent)}[{{\[]|[ \t]{{0,{len(indent)}}}\])"
        elif self._to(re.compile(re.escape(self._lead) if self._lead else NEXT_OBJECT), start, within_line=True):
            return
        if self._to(re.compile(rf"(?<=[\r\n]){where}"), start):
            return
        line_ended = self._window.endswith(("\n", "\r"))
        self._advance(len(self._window))
        while self._next():
            if line_ended and re.match(where, self._window):
                return
            line_ended = self._window.endswith(("\n", "\r"))
            self._advance(len(self._window))

    def _to(self, pattern: re.Pattern[str], start: int, within_line: bool = False) -> bool:
        """Moves to the next match, if there is one in the window, or in the rest of its line."""
        found = pattern.search(self._window, start)
        if found is None or (within_line and LINE_END.search(self._window[start : found.start()])):
            return False
        self._advance(found.start())
        return True
