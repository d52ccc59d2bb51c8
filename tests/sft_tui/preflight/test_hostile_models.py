"""Parquet files with bytes flipped, cut out and put in at random: the app gets an answer, and never dies."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.contract.config import override
from engine.contract.presets import preset
from sft_tui.preflight.check import check_file
from tests.sft_tui.preflight.broken_files import Files


def mutated(sound: bytes, chance: random.Random) -> bytes:
    """The file with one to eight mutations, half of them near its footer, where the structure is."""
    data = bytearray(sound)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(data)) if chance.random() < 0.5 else max(0, len(data) - chance.randint(1, 700))
        place = min(place, len(data) - 1)
        kind = chance.choice(["flip", "set", "cut", "insert", "copy", "truncate"])
        if kind == "flip":
            data[place] ^= 1 << chance.randrange(8)
        elif kind == "set":
            data[place] = chance.choice([0, 0x7F, 0x80, 0xFF])
        elif kind == "cut":
            del data[place : place + chance.randint(1, 9)]
        elif kind == "insert":
            data[place:place] = chance.randbytes(chance.randint(1, 9))
        elif kind == "copy":
            data[place : place + 16] = data[:16]
        elif chance.random() < 0.2:
            del data[place:]
        if len(data) < 2:
            break
    return bytes(data)


def answers(files: Files, tries: int, seed: int) -> dict[str, int]:
    """How many of the mutants got which finding."""
    chance = random.Random(seed)
    files.write(files.rows() * 4, compression=chance.choice(["snappy", "zstd", "none"]), row_group_size=50)
    sound = files.path("train_file").read_bytes()
    assert pq.ParquetFile(files.path("train_file")).metadata.num_rows == 160
    config, _ = override(preset("sft-small").config, {**files.settings, "tokenizer": str(Path("nowhere"))})
    found: dict[str, int] = {}
    for _ in range(tries):
        files.path("train_file").write_bytes(mutated(sound, chance))
        findings = check_file(config).findings
        assert findings
        assert all(finding.what() for finding in findings)
        found[findings[0].code] = found.get(findings[0].code, 0) + 1
    return found


@pytest.mark.usefixtures("forked")
def test_mutated_model_files_get_an_answer(files: Files) -> None:
    found = answers(files, 40, seed=0)
    assert sum(found.values()) == 40
    assert found["parquet_bad"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_two_thousand_mutated_files_get_an_answer(files: Files, seed: int) -> None:
    assert sum(answers(files, 250, seed).values()) == 250
