"""A T5 is described by names and shapes alone as loading it shows, and recognized whatever its configuration says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.contract.messages import InputError
from engine.models import freezing, inspection
from engine.models.registry import parts_of
from tests.engine.models.test_inspection import SMALL, config_of, t5
from tests.engine.models.test_structure import refusal as refused_kind
from tests.engine.models.test_structure import says


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_parameters_of_a_state_dict_are_those_loading_shows(tmp_path: Path, suffix: str) -> None:
    net = t5()
    path = tmp_path / f"model{suffix}"
    state = net.state_dict()
    if suffix == ".bin":
        torch.save(state, path)
    else:
        save_file(
            {
                "shared.weight": state["shared.weight"],
                **{k: v for k, v in state.items() if ".block." in k or "final" in k},
            },
            path,
        )
    facts = inspection.describe(config_of(path))
    counted = freezing.freeze(net, "encoder,embeddings", parts_of(net))
    assert (facts.sizes.parameters, facts.sizes.trained, facts.rows) == (counted.parameters, counted.trained, 40)


def test_a_new_model_has_all_but_its_embeddings() -> None:
    facts = inspection.describe(config_of("", freeze=""))
    whole = freezing.freeze(t5(), "", parts_of(t5())).parameters
    assert facts.sizes.parameters == whole - 40 * SMALL["d_model"]


@pytest.mark.parametrize("freeze", ["", "encoder,embeddings", "decoder"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_new_model_with_its_tokenizer_has_the_sizes_of_a_folder(tmp_path: Path, freeze: str, optimizer: str) -> None:
    t5().save_pretrained(tmp_path)
    new, kept = (replace(config_of(path, freeze), optimizer=optimizer) for path in ("", tmp_path))
    assert inspection.describe(new).for_tokens(40).sizes == inspection.describe(kept).sizes


def test_an_old_format_state_dict_has_the_same_parameters(tmp_path: Path) -> None:
    state = t5().state_dict()
    torch.save(state, tmp_path / "new.bin")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    new, old = (inspection.describe(config_of(tmp_path / f"{name}.bin")) for name in ("new", "old"))
    assert (new.sizes, new.rows) == (old.sizes, old.rows)


@pytest.mark.parametrize("said", ["bart", "my_own", ["t5"], None])
def test_a_t5_by_another_name_is_accepted_with_a_corrected_config(said: Any, tmp_path: Path) -> None:
    code = {"auto_map": {"AutoConfig": "own.Config", "AutoModelForSeq2SeqLM": "own.Model"}}
    t5().save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')")
    message = refused_kind(says(tmp_path, model_type=said, architectures=["Own"], **code))
    assert message.args["model_type"] == "t5"
    assert inspection.describe(config_of(says(tmp_path, model_type="t5"))).rows == 40


def test_sizes_missing_in_a_config_are_named(tmp_path: Path) -> None:
    t5().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"does not say d_ff, num_heads"):
        inspection.describe(config_of(says(tmp_path, num_heads=None, d_ff=None)))
