"""How the model sees one row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.config import override
from engine.contract.presets import preset
from tests.engine.inspecting.asked import answer


def test_a_row_is_shown_with_what_is_cut(
    inspected: Callable[..., dict[str, Any]], tmp_path: Path, tiny_tokenizer: Path
) -> None:
    inspected()
    values = {"train_file": str(tmp_path / "train.parquet"), "tokenizer": str(tiny_tokenizer), "max_seq_len": 3}
    config, _ = override(preset("sft-small").config, values)
    (found,) = answer("row", config, setting="train_file", row=1)["pairs"]
    assert found["prompt"]["text"] == "今天天气怎么样？"
    assert found["prompt"]["kept"] == 3
    assert len(found["prompt"]["ids"]) == len(found["prompt"]["pieces"]) > 3
    beyond = answer("row", config, setting="train_file", row=3)
    assert beyond["error"]["code"] == "row_unknown"
    assert beyond["error"]["args"]["last"] == 2


def test_turns_that_do_not_fit_are_counted_and_shown(tmp_path: Path, tiny_tokenizer: Path) -> None:
    row = {"prompt": "系统\nQ: 你好\nA: 谢谢\nQ: 怎么样？", "response": "好", "prompt_turns": [3, 9, 15]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    values = {"train_file": str(tmp_path / "train.parquet"), "tokenizer": str(tiny_tokenizer), "max_seq_len": 12}
    config, _ = override(preset("sft-small").config, {**values, "token_store": str(tmp_path / "store")})
    facts = answer("data", config, settings=["train_file"], processes=1)["train_file"]["tokens"]
    assert (facts["turns_rows"], facts["turns_left_out"], facts["cut_rows"]) == (1, 2, 0)
    assert facts["turns_longest"] > 12 >= facts["prompt"]["longest"]
    shown = answer("row", config, setting="train_file", row=0)["pairs"][0]["prompt"]
    assert (shown["text"], shown["turns_left_out"]) == ("系统\n怎么样？", 2)
    assert shown["left_out"] == "Q: 你好\nA: 谢谢"
