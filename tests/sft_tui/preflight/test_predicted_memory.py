"""The peak of memory that is predicted, and the one that the run then shows."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROWS
from tests.processes import SFT_TUI, options, run

MODELS = {
    "tiny": {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4},
    "chatlm": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 10, "num_decoder_layers": 10, "num_heads": 12},
}
VOCABULARY = {"tiny": 16_000, "chatlm": 29_298}


def tokenizer_of(folder: Path, size: int) -> str:
    """A tokenizer with this many tokens, one of them for each character of the rows."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = sorted({character for row in ROWS for text in row for character in text})
    words = ["[PAD]", "[EOS]", "[UNK]", *characters]
    words += [f"<{number}>" for number in range(size - len(words))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("size", MODELS)
def test_the_prediction_is_within_15_percent_of_what_the_run_shows(tmp_path: Path, size: str, processes: int) -> None:
    pairs = [
        (one[0] + other[0], (one[1] + other[1]) * (1 + place % 9)) for place, one in enumerate(ROWS) for other in ROWS
    ]
    for name, rows in (("train", pairs[:64]), ("valid", pairs[64:72])):
        pq.write_table(
            pa.table({"prompt": [p for p, _ in rows], "response": [r for _, r in rows]}), tmp_path / f"{name}.parquet"
        )
    settings: dict[str, Any] = {
        "train_file": "train.parquet", "validation_file": "valid.parquet", "pretrained_model": "", **MODELS[size],
        "tokenizer": tokenizer_of(tmp_path / "tokenizer", VOCABULARY[size]), "epochs": 1, "num_processes": processes,
    }  # fmt: skip
    checked = run(*SFT_TUI, "check", "sft-small", "--json", *options(settings), folder=tmp_path)
    predicted = json.loads(checked.out)["memory"]["total"]
    cpu = {"ACCELERATE_USE_CPU": "true"}
    ended = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path, env=cpu, limit=900)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("Peak memory of the trainer")]
    peaks = [float(number) * {"GB": 1e9, "MB": 1e6}[unit] for number, unit in re.findall(r"([\d.]+) (GB|MB)", line)]
    assert len(peaks) == processes
    assert all(abs(predicted / peak - 1) < 0.15 for peak in peaks), (predicted, peaks)
