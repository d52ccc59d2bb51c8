"""What scripts that tests launch on several ranks have in common."""

from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import Record, Step
from engine.contract.rundir import RunDir
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store
from engine.data.tokenizer import load_tokenizer
from engine.models import loading
from engine.models.registry import family_for


def source_of(config: RunConfig, setting: str) -> RowSource:
    return RowSource.of(config, setting, family_for(config).rows)


def prepared(config: RunConfig, setting: str) -> tuple[Any, Any, TokenStore]:
    tokenizer, source = load_tokenizer(config.tokenizer), source_of(config, setting)
    store = open_store(source, tokenizer, config.max_seq_len, Path(config.token_store), lambda _done, _total: None)
    return tokenizer, loading.load_model(config, tokenizer), store


def stop_after(step: int, run_dir: RunDir, rank: int) -> Any:
    """A listener that asks for a stop so that `step` is the last, from the stream that rank 0 alone writes."""

    def listener(record: Record) -> None:
        if rank == 0 and isinstance(record.event, Step) and record.event.step == step - 1:
            run_dir.request_stop()

    return listener
