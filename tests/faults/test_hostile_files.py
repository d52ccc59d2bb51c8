"""Hostile files: nothing in them is executed; a run that gets one ends with one sentence and leaves nothing."""

import contextlib
import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.faults.hostile import BOMBS, LIES, PICKLES, Trap, bring_code, change, legacy, plain, write_bomb
from tests.faults.scenarios import ScenarioTable
from tests.faults.untrusted_runs import UntrustedRuns
from tests.processes import run

# Libraries warn of what they refuse next; what counts is how the run ends.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def model(untrusted: UntrustedRuns, tiny_t5: Path) -> Path:
    """The folder of a model that others may write to."""
    return Path(shutil.copytree(tiny_t5, untrusted.folder / "model"))


@pytest.fixture
def tokenizer(untrusted: UntrustedRuns, tiny_tokenizer: Path) -> Path:
    """The folder of a tokenizer that others may write to."""
    return Path(shutil.copytree(tiny_tokenizer, untrusted.folder / "tokenizer"))


# Pickles.


@pytest.mark.parametrize("kind", PICKLES)
def test_the_pickles_of_these_tests_hold_code(tmp_path: Path, kind: str) -> None:
    """Read as nobody should, they make the canary: where it is not there, nothing was executed."""
    PICKLES[kind](tmp_path / "weights.bin", tmp_path / "canary")
    with contextlib.suppress(RuntimeError):  # it is not a file of torch's, which is noticed after it was unpickled
        torch.load(tmp_path / "weights.bin", weights_only=False)
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("kind", PICKLES)
def test_a_model_that_is_a_pickle_is_not_run(
    untrusted: UntrustedRuns, table: ScenarioTable, kind: str, name: str
) -> None:
    path = untrusted.folder / name
    PICKLES[kind](path, untrusted.canary)
    with table.scenario("code in a model") as tries, tries.one(f"{kind} {name}"):
        untrusted.assert_refused(path, pretrained_model=str(path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("kind", PICKLES)
def test_a_folder_with_a_pickle_is_not_run(
    untrusted: UntrustedRuns, model: Path, table: ScenarioTable, kind: str, name: str
) -> None:
    (model / "model.safetensors").unlink()
    PICKLES[kind](model / name, untrusted.canary)
    with table.scenario("code in a model") as tries, tries.one(f"{kind} {name}"):
        untrusted.assert_refused(model, pretrained_model=str(model))


@pytest.mark.parametrize("shard", ["shard.bin", "../shard.bin"])
@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_among_the_shards_of_a_model_is_not_run(
    untrusted: UntrustedRuns, model: Path, table: ScenarioTable, kind: str, shard: str
) -> None:
    (model / "model.safetensors").unlink()
    PICKLES[kind](model / shard, untrusted.canary)
    index = {"metadata": {"total_size": 8}, "weight_map": {"shared.weight": shard}}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with table.scenario("code in a model") as tries, tries.one(f"{kind} {shard}"):
        untrusted.assert_refused(model, pretrained_model=str(model))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_pickle_in_place_of_a_tokenizer_is_not_run(
    untrusted: UntrustedRuns, tokenizer: Path, table: ScenarioTable, name: str
) -> None:
    plain(tokenizer / name, untrusted.canary)
    with table.scenario("code in a tokenizer") as tries, tries.one(name):
        untrusted.assert_refused(tokenizer, tokenizer=str(tokenizer))


# The class that reads it, by the name of the file.
VOCABULARIES = {
    "spiece.model": "T5Tokenizer",
    "tokenizer.model": "LlamaTokenizer",
    "vocab.json": "GPT2Tokenizer",
    "vocab.txt": "BertTokenizer",
    "vocab.pkl": "TransfoXLTokenizer",  # was a pickle by design
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_pickle_in_place_of_a_vocabulary_is_not_run(
    untrusted: UntrustedRuns, tokenizer: Path, table: ScenarioTable, name: str
) -> None:
    (tokenizer / "tokenizer.json").unlink()
    plain(tokenizer / name, untrusted.canary)
    change(tokenizer / "tokenizer_config.json", {"tokenizer_class": VOCABULARIES[name]})
    with table.scenario("code in a tokenizer") as tries, tries.one(name):
        untrusted.assert_refused(tokenizer, tokenizer=str(tokenizer))


@pytest.mark.parametrize("setting", ["train_file", "validation_file"])
def test_a_pickle_in_place_of_a_data_file_is_not_run(
    untrusted: UntrustedRuns, table: ScenarioTable, setting: str
) -> None:
    path = untrusted.folder / "rows.parquet"
    plain(path, untrusted.canary)
    with table.scenario("code in a data file") as tries, tries.one(setting):
        untrusted.assert_refused(path, **{setting: str(path)})


def test_a_data_file_whose_type_is_a_pickle_is_not_run(untrusted: UntrustedRuns, table: ScenarioTable) -> None:
    """Arrow once unpickled the types of columns as it opened a file."""
    path = untrusted.folder / "rows.parquet"
    trap = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    trap[b"ARROW:extension:metadata"] = pickle.dumps(Trap(untrusted.canary))
    fields = [pa.field("prompt", pa.int64(), metadata=trap), pa.field("response", pa.string(), metadata=trap)]
    pq.write_table(pa.table({"prompt": [1], "response": ["a"]}, schema=pa.schema(fields)), path)
    with table.scenario("code in a data file") as tries, tries.one("a type"):
        untrusted.assert_refused(path, train_file=str(path))


def test_a_pickle_is_refused_in_a_real_process(untrusted: UntrustedRuns, table: ScenarioTable, tmp_path: Path) -> None:
    """As a user meets with it: the exit code, and nothing on standard error that looks like a bug of ours."""
    path = untrusted.folder / "weights.bin"
    legacy(path, untrusted.canary)
    run_dir = untrusted.run_dir(pretrained_model=str(path))
    with table.scenario("code in a model") as tries, tries.one("in a process of its own"):
        ended = run(sys.executable, "-m", "engine.train", str(run_dir.path), folder=tmp_path)
        assert not untrusted.canary.exists(), "code in the file was executed"
        assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
        assert not untrusted.output.path.exists()


# Code that a folder brings along, and asks to be imported.


def test_a_model_with_code_next_to_it_runs_none(untrusted: UntrustedRuns, model: Path, table: ScenarioTable) -> None:
    bring_code(model, "config.json", untrusted.canary, model_type="evil")
    with table.scenario("code next to a model or a tokenizer") as tries, tries.one("model"):
        untrusted.assert_refused(model, pretrained_model=str(model))


def test_a_tokenizer_with_code_next_to_it_runs_none(
    untrusted: UntrustedRuns, tokenizer: Path, table: ScenarioTable
) -> None:
    bring_code(tokenizer, "tokenizer_config.json", untrusted.canary, tokenizer_class="EvilTokenizer")
    with table.scenario("code next to a model or a tokenizer") as tries, tries.one("tokenizer"):
        untrusted.assert_refused(tokenizer, tokenizer=str(tokenizer))


# Headers of safetensors that lie, and JSON that is too much for its reader.


@pytest.mark.parametrize("lie", LIES)
def test_weights_with_false_headers_are_refused(
    untrusted: UntrustedRuns, model: Path, table: ScenarioTable, lie: str
) -> None:
    path = untrusted.folder / "weights.safetensors"
    for place in (path, model / "model.safetensors"):
        place.write_bytes(LIES[lie])
    with table.scenario("weights with a header that lies") as tries:
        for given in (path, model):
            with tries.one(f"{lie}: {given.name}"):
                untrusted.assert_refused(given, pretrained_model=str(given))


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_model_with_an_excessive_config_is_refused(
    untrusted: UntrustedRuns, model: Path, table: ScenarioTable, bomb: str
) -> None:
    write_bomb(model / "config.json", bomb)
    with table.scenario("JSON that is too much, in a model") as tries, tries.one(bomb):
        untrusted.assert_refused(model, pretrained_model=str(model))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_an_excessive_tokenizer_is_refused(
    untrusted: UntrustedRuns, tokenizer: Path, table: ScenarioTable, bomb: str, name: str
) -> None:
    write_bomb(tokenizer / name, bomb)
    with table.scenario("JSON that is too much, in a tokenizer") as tries, tries.one(f"{name}: {bomb}"):
        untrusted.assert_refused(tokenizer, tokenizer=str(tokenizer))


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_excessive_record_is_refused(untrusted: UntrustedRuns, table: ScenarioTable, bomb: str) -> None:
    run_dir = untrusted.run_dir()
    write_bomb(run_dir.record, bomb)
    with table.scenario("JSON that is too much, as the record of a run") as tries, tries.one(bomb):
        untrusted.assert_run_refused(run_dir, run_dir.record)


# Configurations of the right form that no model and no tokenizer can have.

NO_MODELS: dict[str, dict[str, Any]] = {
    "a size as text": {"d_model": "32"},
    "a size that is a fraction": {"d_model": 32.5},
    "no size": {"d_model": None},
    "a negative size": {"d_model": -32},
    "a size beyond memory": {"d_model": 10**18},
    "a size beyond 64 bits": {"d_model": 10**30},
    "a vocabulary beyond memory": {"vocab_size": 10**12},
    "no heads": {"num_heads": 0},
    "heads beyond memory": {"num_heads": 10**10},
    "no layers": {"num_layers": 0},
    "a dropout above 1": {"dropout_rate": 7},
    "a start that is a text": {"decoder_start_token_id": "x"},
    "a start beyond the vocabulary": {"decoder_start_token_id": 10**18},
    "a start before the vocabulary": {"decoder_start_token_id": -5},
    "an end that is an object": {"eos_token_id": {"a": 1}},
    "a type that is a list": {"model_type": ["t5"]},
    "a type that is an object": {"model_type": {"t5": 1}},
    "a type that is a number": {"model_type": 5},
    "a class that is a text": {"__class__": "x"},
    "a method that is a number": {"to_dict": 5},
    "attention that is downloaded": {"_attn_implementation": "evil/kernel"},
}


@pytest.mark.parametrize("what", NO_MODELS)
def test_an_impossible_config_is_refused(
    untrusted: UntrustedRuns, model: Path, table: ScenarioTable, what: str
) -> None:
    change(model / "config.json", NO_MODELS[what])
    with table.scenario("a configuration that no model can have") as tries, tries.one(what):
        untrusted.assert_refused(model, pretrained_model=str(model))


def added(number: int) -> dict[str, Any]:
    """A token of this number, added to the vocabulary."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"added_tokens": [{"id": number, "content": "x", **dict.fromkeys(flags, False)}]}


def ending(name: str, number: int) -> dict[str, Any]:
    """An end of every text that is this token; the end token has this number."""
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": name, "type_id": 0}}]
    known = {"[EOS]": {"id": "[EOS]", "ids": [number], "tokens": ["[EOS]"]}}
    return {"post_processor": {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": known}}


NO_TOKENIZERS: dict[str, dict[str, Any]] = {
    "another version": {"version": "9"},
    "a vocabulary that is a number": {"model": {"vocab": 5}},
    "an empty vocabulary": {"model": {"vocab": {}}},
    "a negative number": {"model": {"vocab": {"[EOS]": -1}}},
    "a number beyond the model": {"model": {"vocab": {"[EOS]": 10**6}}},
    "a number beyond 32 bits": {"model": {"vocab": {"[EOS]": 1 << 40}}},
    "a kind that there is not": {"model": {"type": "Evil"}},
    "an added number beyond 32 bits": added(10**12),
    "a pattern that is none": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(((("}}},
    "a decoder that there is not": {"decoder": {"type": "Evil"}},
    "a normalizer of garbage": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "an end that there is not": ending("[Q]", 1),
    "an end beyond the model": ending("[EOS]", 10**9),
}
NO_SETTINGS: dict[str, dict[str, Any]] = {
    "a class that is a list": {"tokenizer_class": ["a"]},
    "an end that is a number": {"eos_token": 5},
    "an end that is half a pair": {"eos_token": "\ud800"},
    "no padding": {"pad_token": None},
    "a longest text that is a text": {"model_max_length": "x"},
    "a side that there is not": {"padding_side": "up"},
    "added tokens that are a number": {"added_tokens_decoder": 5},
    "an object of a tokenizer": {"tokenizer_object": 5},
}
IMPOSSIBLE = {
    f"{name}: {what}": (name, changes)
    for name, table in (("tokenizer.json", NO_TOKENIZERS), ("tokenizer_config.json", NO_SETTINGS))
    for what, changes in table.items()
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_tokenizer_is_refused(
    untrusted: UntrustedRuns, tokenizer: Path, table: ScenarioTable, what: str
) -> None:
    name, changes = IMPOSSIBLE[what]
    change(tokenizer / name, changes)
    with table.scenario("a tokenizer that there cannot be") as tries, tries.one(what):
        untrusted.assert_refused(tokenizer, tokenizer=str(tokenizer))
