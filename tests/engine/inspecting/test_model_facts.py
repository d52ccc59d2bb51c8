"""The facts on the model that a run starts from."""

import hashlib
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.inspecting.model_facts import model_facts


def test_a_model_is_vouched_for_by_the_hash_next_to_it(tmp_path: Path, tiny_t5: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_t5.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = RunConfig(pretrained_model=str(folder), token_store=str(tmp_path / "store"))
    plain = model_facts(config)
    assert plain.verified == ""
    assert plain.sizes.parameters > 0
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors.sha256").write_text(f"{hashlib.sha256(weights).hexdigest()}  model.safetensors\n")
    assert model_facts(config).verified == "sha256"
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(InputError) as refused:
        model_facts(config)
    assert refused.value.message.code == "model_hash"


def test_a_new_model_has_no_files_to_vouch_for(tmp_path: Path) -> None:
    facts = model_facts(RunConfig(pretrained_model="", token_store=str(tmp_path / "store")))
    assert (facts.verified, facts.weights_bytes) == ("", 0)
