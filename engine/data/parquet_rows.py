"""The rows that a run trains on or is scored on; pyarrow is imported when they are read."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.contract.config import RunConfig
from engine.contract.glances import Form
from engine.contract.inputs import require_files
from engine.contract.messages import InputError
from engine.data import journal
from engine.data.chat.conversations import Chat, chat_of, chat_of_conversation
from engine.data.chat.settings import ChatSettings, RowKind
from engine.data.shapes.account import RefusedError
from engine.data.shapes.conversation import Conversation, turns_column
from engine.data.text_checks import TextBatch, fault_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class RowSource:
    """The rows of one Parquet file; `setting` names the option that chose it.

    They are pairs of texts, or conversations in a column of messages if the file has that and no pairs. `chat` is how
    conversations become rows of a chat model, which takes messages before pairs; None for a model of pairs.
    """

    path: Path
    setting: str
    prompt_column: str
    response_column: str
    messages_column: str = RunConfig.messages_column
    chat: ChatSettings | None = None

    @classmethod
    def of(cls, config: RunConfig, setting: str, rows: RowKind) -> Self:
        """The file of a setting, which must exist, after a killed import has been settled; raises InputError.

        `rows` is what the family of the run's model makes of it.
        """
        path = Path(str(getattr(config, setting)))
        journal.settle([path])
        require_files(config, setting)
        columns = (config.prompt_column, config.response_column, config.messages_column)
        return cls(path, setting, *columns, ChatSettings.of(config) if rows == "chat" else None)

    def form(self, file: "pq.ParquetFile") -> Form:
        """Whether the rows of the file are pairs or conversations."""
        names = file.schema_arrow.names
        pairs = self.chat is None and self._has_pairs(file)
        return "messages" if self.messages_column in names and not pairs else "pairs"

    def open(self) -> "pq.ParquetFile":
        """The file with the columns of its form checked; raises InputError."""
        from engine.data import parquet  # 50 MB that a trainer saves if its rows are already tokenized

        file = parquet.opened(self.path)
        conversations = self.chat is not None or parquet.turns_columns(file.schema_arrow)
        if self.form(file) == "messages" or (conversations and not self._has_pairs(file)):
            parquet.require_messages(self.path, file, self.messages_column)
        else:
            columns = {"prompt_column": self.prompt_column, "response_column": self.response_column}
            parquet.require_texts(self.path, file, columns)
        return file

    def _has_pairs(self, file: "pq.ParquetFile") -> bool:
        return {self.prompt_column, self.response_column}.issubset(file.schema_arrow.names)

    def batches(self, file: "pq.ParquetFile") -> Iterator[TextBatch]:
        """The pairs, a batch at a time; bytes for a text that is not UTF-8; raises InputError."""
        from engine.data import parquet

        if self.form(file) == "pairs":
            columns = (self.prompt_column, self.response_column, turns_column(self.prompt_column))
            yield from parquet.texts(self.path, file, *columns)
            return
        first = 0
        for conversations in self.conversations(file):
            yield _pairs(conversations, first)
            first += len(conversations)

    def conversations(self, file: "pq.ParquetFile") -> Iterator[list[Conversation | RefusedError]]:
        """The rows as conversations, a batch at a time, with the reason for one that cannot be used; raises InputError.

        Of a pair whose turns were recorded, only the response is learned: earlier ones are in rows of their own.
        """
        from engine.data import parquet

        if self.form(file) == "messages":
            yield from parquet.conversations(self.path, file, self.messages_column)
            return
        for batch in self.batches(file):
            yield [self._of_pair(batch, place) for place in range(len(batch.prompts))]

    def _of_pair(self, batch: TextBatch, place: int) -> Conversation | RefusedError:
        prompt, response, starts = batch.prompts[place], batch.responses[place], batch.starts[place]
        fault = fault_of(prompt, response)
        if fault:
            return RefusedError(fault)
        try:
            return Conversation.of_pair(str(prompt), str(response), starts)
        except (TypeError, ValueError):
            raise self.turns_elsewhere(batch.numbers[place]) from None

    def turns_elsewhere(self, row: int) -> InputError:
        """The error to raise if the turns of a prompt do not begin where the file says."""
        shown = {"path": str(self.path), "column": turns_column(self.prompt_column), "prompt": self.prompt_column}
        return InputError("turns_elsewhere", row=row, setting=self.setting, **shown)

    def chats(self, file: "pq.ParquetFile") -> Iterator[list[Chat | RefusedError]]:
        """The conversations for a chat template, a batch at a time, with the reason for one that cannot be used.

        Plain messages are as the file has them; others, and pairs, are read as an import would. Raises InputError.
        """
        from engine.data import parquet

        if self.form(file) == "messages" and parquet.are_plain(file, self.messages_column):
            for rows in parquet.messages(self.path, file, self.messages_column):
                yield [row if isinstance(row, RefusedError) else _or_refused(partial(chat_of, *row)) for row in rows]
            return
        for found in self.conversations(file):
            yield [
                one if isinstance(one, RefusedError) else _or_refused(partial(chat_of_conversation, one))
                for one in found
            ]

    def has_turns(self, file: "pq.ParquetFile") -> bool:
        """Whether it is known where turns begin in the prompts."""
        from engine.data import parquet

        return self.form(file) == "messages" or parquet.has_starts(file, turns_column(self.prompt_column))


def _pairs(conversations: list[Conversation | RefusedError], first: int) -> TextBatch:
    """A pair for each answer of some conversations, of which the first is row `first` of the file."""
    rows: list[tuple[str | None, str | None, tuple[int, ...] | None, int]] = []
    refused, noticed = dict[int, str](), Counter[str]()
    for number, one in enumerate(conversations, first):
        try:
            if isinstance(one, RefusedError):
                raise one
            rows += [(row.prompt, row.response, row.starts or None, number) for row in one.rows()]
            noticed.update(one.notices + one.pair_notices)
        except RefusedError as why:
            refused[len(rows)] = str(why)
            rows.append((None, None, None, number))
    prompts, responses, starts, numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
    return TextBatch(prompts, responses, starts, numbers, refused, noticed)


def _or_refused(read: Callable[[], Chat]) -> Chat | RefusedError:
    try:
        return read()
    except RefusedError as error:
        return error
