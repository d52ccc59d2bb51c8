"""What is made of foreign files on request: rows for training, and a tokenizer."""

import threading
from pathlib import Path

from engine.contract.import_report import ColumnsReport, ImportReport, TokenizerReport
from engine.contract.inputs import USUAL_COLUMNS
from engine.contract.messages import InputError
from engine.contract.requests import (
    ColumnsRequest,
    DemoChatRequest,
    DemoRequest,
    DemoTextsRequest,
    ImportRequest,
    TokenizerRequest,
)
from engine.data import journal
from engine.data.parquet_rows import RowSource
from engine.inspecting.answer_lines import paced, paced_files, repeat, send
from engine.inspecting.limits import hide_torch

TOKENIZER_ROWS, LONGEST_TEXT = 100_000, 2000  # rows that a tokenizer is trained on, and characters of each


def imported(request: ImportRequest) -> ImportReport | ColumnsReport:
    """The report on an import, which is carried out; raises InputError."""
    import pyarrow.parquet as pq

    from engine.data import demo_corpus
    from engine.data.importing import convert

    if isinstance(request, ColumnsRequest):
        return ColumnsReport(convert.columns_to_name(request, paced_files()))
    if isinstance(request, DemoRequest):
        send(doing="chatterbot-corpus")
        return convert.import_pairs(request, demo_corpus.pairs())
    if isinstance(request, DemoChatRequest):
        return convert.import_pairs(request, demo_corpus.chat_pairs()[request.held_out])
    if isinstance(request, DemoTextsRequest):
        journal.settle(map(Path, request.files))
        columns = list(USUAL_COLUMNS.values())
        tables = [pq.read_table(path, columns=columns).to_pydict() for path in request.files]
        pairs = (pair for table in tables for pair in zip(*(table[name] for name in columns), strict=True))
        return convert.import_pairs(request, demo_corpus.continuations(pairs))
    return convert.import_files(request, paced_files())


def new_tokenizer(request: TokenizerRequest) -> TokenizerReport:
    """Trains a tokenizer on the rows of Parquet files, of large ones on rows spread evenly; raises InputError."""
    from engine.data.importing.convert import require_plain

    journal.settle(map(Path, request.files))
    require_plain(request.files)
    texts: list[str] = []
    for name in request.files:
        columns = (request.prompt_column, request.response_column, request.messages_column)
        source = RowSource(Path(name), "train_file", *columns)
        file, seen, report = source.open(), 0, paced(name)
        every = 1 + file.metadata.num_rows * len(request.files) // TOKENIZER_ROWS
        for batch in source.batches(file):
            pairs = list(zip(batch.prompts, batch.responses, strict=True))[-seen % every :: every]
            texts += [text[:LONGEST_TEXT] for pair in pairs for text in pair if isinstance(text, str)]
            seen += len(pairs)
            report(batch.numbers[-1], file.metadata.num_rows)
    if not any(texts):
        raise InputError("rows_none", path=", ".join(request.files))
    hide_torch()
    from engine.data.tokenizer import train_tokenizer

    over = threading.Event()
    threading.Thread(target=repeat, args=(request.output, over), daemon=True).start()
    tokens = train_tokenizer(Path(request.output), texts, request.vocabulary)
    over.set()
    return TokenizerReport(tokens, len(texts), request.output)
