"""The rows of the chat benchmark: English pairs of chatterbot-corpus, whatever their length."""

from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import Table

from engine.data import demo_corpus

LONGEST = 4000  # characters


def write_rows(train: Path, valid: Path, rows: int, valid_rows: int) -> None:
    """Writes two Parquet files of prompts and responses; raises ValueError if the corpus has fewer."""
    found = demo_corpus.pairs(("english",), LONGEST)
    if len(found) < rows + valid_rows:
        raise ValueError(f"{len(found)} rows are fewer than {rows} and {valid_rows} for validation")
    for path, part in ((train, found[:rows]), (valid, found[rows : rows + valid_rows])):
        prompts, responses = zip(*part, strict=True)
        pq.write_table(Table.from_pydict({"prompt": prompts, "response": responses}), path)
