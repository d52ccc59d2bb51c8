"""Where the rows come from that a run learns from or is scored on; pyarrow is imported when they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.texts import Text

if TYPE_CHECKING:
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class Source:
    """The rows of one Parquet file; `setting` names the option that chose it."""

    path: Path
    setting: str
    prompt_column: str
    response_column: str

    def open(self) -> "pq.ParquetFile":
        """The file with both columns checked; raises InputError."""
        from engine import parquet  # 50 MB that a trainer does without where its rows are tokenized already

        return parquet.opened(self.path, {"prompt_column": self.prompt_column, "response_column": self.response_column})

    def batches(self, file: "pq.ParquetFile") -> Iterator[tuple[Sequence[Text], Sequence[Text]]]:
        """Prompts and responses, a batch at a time; bytes where a text is not UTF-8; raises InputError."""
        from engine import parquet

        return parquet.texts(self.path, file, self.prompt_column, self.response_column)
