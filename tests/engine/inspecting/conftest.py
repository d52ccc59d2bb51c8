"""The facts on data files that a test writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.config import override
from engine.contract.presets import preset
from tests.engine.inspecting.asked import ROWS, answer


@pytest.fixture
def inspected(tmp_path: Path, tiny_tokenizer: Path) -> Callable[..., dict[str, Any]]:
    """Asks the process for its facts on data files with these rows, under settings given by name."""

    def write(name: str, rows: list[tuple[str | None, str | None]]) -> str:
        table = pa.table({"prompt": [row[0] for row in rows], "response": [row[1] for row in rows]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    def ask(train: Any = ROWS, valid: Any = ROWS[:1], **values: Any) -> dict[str, Any]:
        paths = {"train_file": write("train", train), "validation_file": write("valid", valid)}
        store = {"tokenizer": str(tiny_tokenizer), "token_store": str(tmp_path / "store")}
        config, _ = override(preset("sft-small").config, {**paths, **store, **values})
        return answer("data", config, settings=["train_file", "validation_file"], processes=1)

    return ask
