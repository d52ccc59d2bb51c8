"""Makes a token store of the conversations of a data file, each of which becomes a row or several."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.contract.bounds import as_json
from engine.contract.facts import ChatFacts
from engine.contract.messages import InputError
from engine.contract.reasons import counted
from engine.data.bounded import Worker, in_time, one_ahead
from engine.data.chat.conversations import Chat
from engine.data.chat.rows import ChatRow, Made, RowMaker
from engine.data.chat.templates import CHATML_NAME, ChatTemplate, lacking_chatml
from engine.data.chat.unwritten import parts_of
from engine.data.parquet_rows import RowSource
from engine.data.shapes.account import RefusedError
from engine.data.store_building import Progress, garbage_collection_paused, id_kind, joined_ids
from engine.data.store_files import NewRows, StoreWriter
from engine.data.text_checks import TextTally

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chats = Sequence[Chat | RefusedError]
MOST_STOPS = 8  # end tokens that are named
PROBED = 100  # characters with which a template is tried
Results = list[Made | RefusedError]


def build_chat_store(
    source: RowSource, tokenizer: "PreTrainedTokenizerBase", max_len: int, folder: Path, progress: Progress
) -> None:
    """Makes rows of the conversations of `source` in the files of a new store; raises InputError or OSError."""
    assert source.chat is not None
    file = source.open()
    total, kind, texts, tally = file.metadata.num_rows, id_kind(tokenizer), TextTally(), _Tally(tokenizer)
    template = ChatTemplate.of(tokenizer, source.chat.template, source.chat.options)

    def waiting() -> None:
        progress(texts.rows, total)

    with StoreWriter(folder) as out, garbage_collection_paused():
        for chats, found in _made(source.chats(file), template, source, max_len, waiting):
            tally.count(chats, found)
            before = texts.rows
            count_chats(texts, chats, found)
            rows = [
                (before + at, chat, row)
                for at, (chat, one) in enumerate(zip(chats, found, strict=True))
                if isinstance(one, Made) and isinstance(chat, Chat)
                for row in one.rows
            ]
            out.append(_new_rows(rows, kind, tokenizer))
            progress(texts.rows, total)
        require_chats(texts, source)
        plain = source.chat.template == CHATML_NAME and lacking_chatml(tokenizer)
        how = {"chatml_as_text": plain, "dated": date.today().isoformat() if template.writes_the_date else ""}
        out.seal({"dtype": np.dtype(kind).name, **how, **tally.to_json(), **texts.to_json()})


def count_chats(texts: TextTally, chats: Chats, found: Sequence[object]) -> None:
    """Counts conversations by the reasons why they are not among those `found`, and their texts and notices."""
    faults = [str(one) if isinstance(one, RefusedError) else None for one in found]
    said = ["\n".join(chat.texts()) if isinstance(chat, Chat) else "" for chat in chats]
    for chat, one in zip(chats, found, strict=True):
        if isinstance(chat, Chat) and not isinstance(one, RefusedError):
            texts.noticed.update(chat.notices)
    texts.add(faults, said, range(texts.rows, texts.rows + len(said)))


def require_chats(texts: TextTally, source: RowSource) -> None:
    """Raises InputError if no conversation can be used."""
    if texts.rows == sum(texts.dropped.values()):
        raise InputError("chats_none", path=str(source.path), rows=texts.rows, reasons=counted(texts.dropped))


def _made(
    batches: Iterator[list[Chat | RefusedError]],
    template: ChatTemplate,
    source: RowSource,
    max_len: int,
    waiting: Callable[[], None],
) -> Iterator[tuple[Chats, Results]]:
    """Each batch with its rows, which a thread makes while the next batch is read and the previous one is written."""
    assert source.chat is not None
    chat, worker, path = source.chat, Worker("chat template"), str(template.tokenizer.name_or_path)

    def finished(future: "Future[Any]", characters: int) -> Any:
        return in_time(future, path, characters, waiting, template.at_work)

    try:
        making = partial(RowMaker, template, chat.stops, max_len, chat.learn, chat.too_long)
        maker: RowMaker = finished(worker.submit(making), PROBED)
        for chats, rows in one_ahead(batches, lambda chats: worker.submit(partial(_rows_of, maker, chats))):
            yield chats, finished(rows, _size(chats))
    finally:
        worker.close()


def _size(chats: Chats) -> int:
    return sum(chat.characters for chat in chats if isinstance(chat, Chat))


def _rows_of(maker: RowMaker, chats: Chats) -> Results:
    """The rows of each conversation, or why there are none."""
    maker.begin([chat for chat in chats if isinstance(chat, Chat)])
    found: Results = []
    for chat in chats:
        if isinstance(chat, Chat):
            try:
                found.append(maker.rows(chat))
            except RefusedError as error:
                found.append(error)
        else:
            found.append(chat)
    return found


def _new_rows(rows: Sequence[tuple[int, Chat, ChatRow]], kind: str, tokenizer: "PreTrainedTokenizerBase") -> NewRows:
    ids = joined_ids((row.ids for _, _, row in rows), kind, tokenizer)
    ends = np.cumsum([len(row.ids) for _, _, row in rows], dtype=np.int64)
    starts = ends - [len(row.ids) for _, _, row in rows] if rows else ends
    spans = [
        (start + first, start + end)
        for start, (_, _, row) in zip(starts.tolist(), rows, strict=True)
        for first, end in row.spans
    ]
    return NewRows(
        ids,
        ends,
        np.array(spans, dtype=np.int64).reshape(-1, 2),
        np.array([number for number, _, _ in rows], dtype=np.int64),
        np.frombuffer(b"".join(_hash(chat, row) for _, chat, row in rows), dtype=np.uint64),
        np.array([row.answer for _, _, row in rows], dtype=np.int64),
    )


def _hash(chat: Chat, row: ChatRow) -> bytes:
    """The hash of what a row is made of: the conversation up to its last answer, and where it begins."""
    content = json.dumps([chat.messages[: row.answer + 1], chat.tools, row.first], ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@dataclass
class _Tally:
    """What became of the conversations of a file."""

    tokenizer: "PreTrainedTokenizerBase"
    counts: Counter[str] = field(default_factory=Counter)
    stops: Counter[int] = field(default_factory=Counter)
    unwritten: Counter[str] = field(default_factory=Counter)
    longest: int = 0

    def count(self, chats: Chats, found: Results) -> None:
        """Counts a batch."""
        for chat, made in zip(chats, found, strict=True):
            if isinstance(chat, Chat) and isinstance(made, Made):
                self._count(chat, made)

    def _count(self, chat: Chat, made: Made) -> None:
        unk = self.tokenizer.unk_token_id
        short = [row for row in made.rows if row.left_out]
        self.longest = max(self.longest, made.longest)
        self.unwritten.update(f"{name}_unwritten" for name in made.unwritten.intersection(parts_of(chat)))
        self.stops.update(row.ids[end - 1] for row in made.rows for _, end in row.spans)
        self.counts.update(
            conversations=1,
            samples=len(made.rows),
            answers=sum(len(row.spans) for row in made.rows),
            split=int(made.rewritten > 0),
            too_long=made.too_long,
            open=int(chat.messages[-1]["role"] != "assistant"),
            unknown=0 if unk is None else sum(row.ids.count(unk) for row in made.rows),
            turns_rows=len(short),
            turns_left_out=sum(row.left_out for row in short),
        )

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        counts, known = self.counts, self.tokenizer.convert_ids_to_tokens
        stops = {str(known(number)): count for number, count in self.stops.most_common(MOST_STOPS)}
        names = ("conversations", "answers", "split", "too_long", "open")
        facts = ChatFacts(stops=stops, unwritten=dict(self.unwritten), **{name: counts[name] for name in names})
        return {
            "unknown_tokens": counts["unknown"],
            "stop_ids": sorted(self.stops),
            "turns_rows": counts["turns_rows"],
            "turns_left_out": counts["turns_left_out"],
            "turns_longest": self.longest,
            "chat": as_json(facts),
        }
