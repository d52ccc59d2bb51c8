"""The rows that a run trains on or is scored on; pyarrow is imported when they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from engine.contract.config import RunConfig
from engine.contract.inputs import require_files
from engine.data import journal
from engine.data.shapes.conversation import turns_column
from engine.data.text_checks import Text

if TYPE_CHECKING:
    import pyarrow.parquet as pq


class TextBatch(NamedTuple):
    """Prompts and responses of some rows, and the positions where the turns of each prompt begin."""

    prompts: Sequence[Text]
    responses: Sequence[Text]
    starts: Sequence[Sequence[int] | None]


@dataclass(frozen=True)
class RowSource:
    """The rows of one Parquet file; `setting` names the option that chose it."""

    path: Path
    setting: str
    prompt_column: str
    response_column: str

    @classmethod
    def of(cls, config: RunConfig, setting: str) -> Self:
        """The file of a setting, which must exist, after a killed import has been settled; raises InputError."""
        path = Path(str(getattr(config, setting)))
        journal.settle([path])
        require_files(config, setting)
        return cls(path, setting, config.prompt_column, config.response_column)

    def open(self) -> "pq.ParquetFile":
        """The file with both columns checked; raises InputError."""
        from engine.data import parquet  # 50 MB that a trainer saves if its rows are already tokenized

        return parquet.opened(self.path, {"prompt_column": self.prompt_column, "response_column": self.response_column})

    def batches(self, file: "pq.ParquetFile") -> Iterator[TextBatch]:
        """The rows, a batch at a time; bytes for a text that is not UTF-8; raises InputError."""
        from engine.data import parquet

        columns = (self.prompt_column, self.response_column, turns_column(self.prompt_column))
        return (TextBatch(*batch) for batch in parquet.texts(self.path, file, *columns))

    def has_turns(self, file: "pq.ParquetFile") -> bool:
        """Whether the file records where turns begin in its prompts."""
        from engine.data import parquet

        return parquet.has_starts(file, turns_column(self.prompt_column))
