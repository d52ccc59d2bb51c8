"""A run whose adapters learn: what it publishes, reports and leaves as it was."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from engine.contract import events
from engine.contract.outputdir import ADAPTER, OutputDir
from engine.contract.owner import Owner, new_id
from engine.contract.scores import read_evaluations
from engine.training.adapter_files import write_adapter
from engine.training.checkpoint import publish_best
from tests.engine.models.adapters import adapted
from tests.engine.models.small import small_t5

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*", "ignore::UserWarning:peft.*")
LORA: dict[str, Any] = {"lora_rank": 4, "freeze": "", "optimizer": "adamw", "learn_rate": 1e-3}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def half(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_t5` in bf16."""
    folder = tmp_path_factory.mktemp("half")
    AutoModelForSeq2SeqLM.from_pretrained(tiny_t5, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(run_here: "Runner", half: Path, tmp_path_factory: pytest.TempPathFactory) -> "Outcome":
    exported = tmp_path_factory.mktemp("exported") / "state.bin"
    run = run_here(pretrained_model=str(half), export_state_dict=str(exported), **LORA)
    assert run.code == 0
    return run


def test_the_best_model_is_merged_in_the_dtype_of_its_base(trained: "Outcome", half: Path) -> None:
    best = AutoModelForSeq2SeqLM.from_pretrained(trained.output.best)
    assert best.dtype == torch.bfloat16
    weights, base = (load_file(folder / "model.safetensors") for folder in (trained.output.best, half))
    assert weights.keys() == base.keys()
    changed = {name for name in base if not torch.equal(weights[name], base[name])}
    assert changed
    assert all(name.rpartition(".")[0].rpartition(".")[2] in ("q", "k", "v", "o", "wi", "wo") for name in changed)
    published, said = trained.output.best / "model.safetensors", "model.safetensors.sha256"
    assert (trained.output.best / said).read_text().split()[0] == digest(published)


def test_peft_gives_the_base_the_adapter_that_was_merged(trained: "Outcome", half: Path) -> None:
    base = AutoModelForSeq2SeqLM.from_pretrained(half, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, str(trained.output.best / "adapter")).merge_and_unload()
    published = load_file(trained.output.best / "model.safetensors")
    for name, tensor in merged.state_dict().items():
        if name in published:
            torch.testing.assert_close(tensor.bfloat16(), published[name], rtol=2**-7, atol=1e-6)


def test_what_merging_changes_is_measured_and_recorded(trained: "Outcome") -> None:
    said = [event.message for event in trained.all(events.Notice) if event.message.code == "lora_merged"]
    recorded = [one.merge for one in read_evaluations(trained.output).values() if one.published]
    assert said
    assert len(said) == len(recorded)
    for message, merge in zip(said, recorded, strict=True):
        assert merge is not None
        assert merge.rows > 0
        assert message.args["adapter"] == f"{merge.adapter:.4f}"
        assert merge.merged != merge.adapter
        assert abs(merge.change) < 0.01


def test_checkpoints_hold_the_adapter_alone_and_the_base_once(trained: "Outcome", half: Path) -> None:
    (frozen,) = (trained.output.checkpoints / "frozen").iterdir()
    held, base = load_file(frozen), load_file(half / "model.safetensors")
    assert held.keys() == base.keys()
    assert all(torch.equal(held[name], base[name]) for name in base)
    for step in trained.output.checkpoint_steps():
        names = load_file(trained.output.checkpoint(step) / "trained.safetensors")
        assert all(name.endswith((".lora_A", ".lora_B")) for name in names)


@pytest.mark.parametrize("rounds", [1, 2])
def test_files_of_the_run_in_the_best_model_are_known(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, rounds: int
) -> None:
    output, net = OutputDir(tmp_path / "output"), small_t5()
    output.path.mkdir()
    output.write_owner(Owner(run="a", id=new_id()))
    adapters = adapted(net)
    for number in range(rounds):
        publish_best(output, net, tokenizer, None, lambda folder: write_adapter(folder, net, adapters, "base"))
        for place in (output.best, output.best / ADAPTER):
            (place / f"mine-{number}.txt").write_text("mine")
    inside = {path for path in output.files() if output.best in path.parents}
    mine = set(output.best.rglob("mine-*.txt"))
    assert len(mine) == 2 * rounds
    assert inside == {path for path in output.best.rglob("*") if path.is_file()} - mine
    assert {"adapter_config.json", "adapter_model.safetensors", "model.safetensors"} <= {path.name for path in inside}


def test_an_exported_state_dict_is_the_merged_model(trained: "Outcome") -> None:
    exported = Path(trained.run_dir.read_record().config["export_state_dict"])
    state = torch.load(exported, weights_only=True)
    published = load_file(trained.output.best / "model.safetensors")
    assert not any("lora" in name for name in state)
    assert all(torch.equal(state[name], tensor) for name, tensor in published.items())


def test_the_plan_counts_what_learns(trained: "Outcome") -> None:
    (plan,) = trained.all(events.Plan)
    adapter = load_file(trained.output.best / "adapter" / "adapter_model.safetensors")
    assert plan.parameters_trained == sum(tensor.numel() for tensor in adapter.values())
    config = json.loads((trained.output.best / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["task_type"]) == (4, "SEQ_2_SEQ_LM")


def test_the_base_keeps_its_bytes(run_here: "Runner", half: Path) -> None:
    before = digest(half / "model.safetensors")
    run_here(pretrained_model=str(half), epochs=1, mixed_precision="bf16", **LORA)
    assert digest(half / "model.safetensors") == before


def test_other_adapters_are_not_resumed_even_by_force(run_here: "Runner", tmp_path: Path) -> None:
    assert run_here(folder=tmp_path, epochs=1, **LORA).code == 0
    again = run_here(
        folder=tmp_path, epochs=2, resume=True, force=True, accepted=["epochs"], **{**LORA, "lora_rank": 2}
    )
    assert again.code == 2
    assert again.ended.message.code == "lora_other_adapter"


def test_a_resumed_run_keeps_the_dtype_of_its_base(run_here: "Runner", half: Path, tmp_path: Path) -> None:
    settings = {**LORA, "pretrained_model": str(half), "folder": tmp_path}
    first = run_here(epochs=1, **settings)
    assert first.code == 0
    frozen = list((first.output.checkpoints / "frozen").iterdir())
    again = run_here(epochs=2, resume=True, accepted=["epochs"], **settings)
    assert again.code == 0
    assert list((again.output.checkpoints / "frozen").iterdir()) == frozen
    weights = load_file(again.output.best / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert json.loads((again.output.best / "config.json").read_text())["dtype"] == "bfloat16"
