"""What is not a model to start from is identified, with what to use instead."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.contract.messages import InputError
from engine.models import inspection
from tests.engine.models.test_inspection import config_of

WEIGHTS = "model.safetensors"
# Files of a folder, what it is called, and what to name in its place.
FOLDERS: dict[str, tuple[list[str], str, str]] = {
    "a LoRA adapter": (["adapter_config.json", "adapter_model.safetensors"], "LoRA adapter (PEFT) of google/mt5", ""),
    "an old adapter": (["adapter_config.json", "adapter_model.bin", "README.md"], "LoRA adapter", ""),
    "accelerate's state": ([WEIGHTS, "optimizer.bin", "scheduler.bin"], "save_state", WEIGHTS),
    "accelerate's of two ranks": (["pytorch_model.bin", "random_states_1.pkl"], "save_state", "pytorch_model.bin"),
    "a Trainer's output": (
        ["checkpoint-500/config.json", "checkpoint-1000/config.json", "runs/x"], "Trainer", "checkpoint-1000",
    ),
    "a run of ours": (["best/config.json", "RUN.json", "evaluations.json"], "output folder of a run", "best"),
    "a folder of the Hub's cache": (["refs/main", "snapshots/0a1b/config.json"], "cache", "snapshots/0a1b"),
    "DeepSpeed": (["config.json", "latest", "zero_to_fp32.py", "global_step5/x.pt"], "DeepSpeed", ""),
    "DeepSpeed's parts": (["zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed", ""),
    "FSDP": (["pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata"], "FSDP", ""),
    "GGUF": (["model-q4.gguf", "README.md"], "GGUF", ""),
    "ONNX": (["config.json", "onnx/encoder_model.onnx"], "ONNX", ""),
    "TensorFlow": (["config.json", "tf_model.h5"], "TensorFlow", ""),
    "Flax": (["config.json", "flax_model.msgpack"], "Flax", ""),
    "weights alone": (["spiece.model", "t5_epoch_3.bin"], "without a config.json", "t5_epoch_3.bin"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_the_kind_of_a_folder_is_named(name: str, tmp_path: Path) -> None:
    files, called, instead = FOLDERS[name]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps({"base_model_name_or_path": "google/mt5", "model_type": "t5"}))
    with pytest.raises(InputError) as refused:
        inspection.describe(config_of(tmp_path))
    message = refused.value.message
    assert message.code == "model_kind"
    assert called in message.what("en")
    assert message.args["instead"] == (str(tmp_path / instead) if instead else "")
    assert message.what("zh") != message.what("en")
    assert message.fix("zh")
    assert "{" not in message.fix("en")


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_gguf_file_is_offered_for_conversion(tmp_path: Path, named: str) -> None:
    file = tmp_path / "my model.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(InputError) as refused:
        inspection.describe(config_of(tmp_path if named == "folder" else file))
    assert refused.value.message.args["gguf"] == str(file)
    assert f"`sft-tui model import '{file}' FOLDER`" in refused.value.message.fix()


def test_our_checkpoint_is_not_taken_for_a_model(tmp_path: Path) -> None:
    step = tmp_path / "checkpoints/step-00000005"
    step.mkdir(parents=True)
    for name in ("MANIFEST.json", "config.json", "trained.safetensors"):
        (step / name).write_text("{}")
    (tmp_path / "best").mkdir()
    with pytest.raises(InputError, match="checkpoint of a run") as refused:
        inspection.describe(config_of(step))
    assert refused.value.message.args["instead"] == str(tmp_path / "best")


@pytest.mark.parametrize(
    ("name", "content", "called"),
    [
        ("model.gguf", b"GGUF\x03\x00\x00\x00", "GGUF"),
        ("renamed.bin", b"GGUF\x03\x00\x00\x00", "GGUF"),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n", "TensorFlow"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "ONNX"),
        ("flax_model.msgpack", b"\x83\xa6shared", "Flax"),
        ("weights.bin", b"\x1f\x8b\x08\x00abcdefgh", "gzip"),
    ],
)
def test_the_kind_of_a_file_is_named(name: str, content: bytes, called: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=called):
        inspection.describe(config_of(tmp_path / name))


def test_a_model_next_to_other_formats_is_a_model(tmp_path: Path) -> None:
    from tests.engine.models.test_inspection import t5

    t5().save_pretrained(tmp_path)
    for name in ("optimizer.bin", "tf_model.h5", "model.onnx", "zero_to_fp32.py"):
        (tmp_path / name).write_bytes(b"x")
    assert inspection.describe(config_of(tmp_path)).rows == 40


@pytest.mark.parametrize("named", ["adapter", "adapter/adapter_model.safetensors"])
def test_for_an_adapter_of_ours_the_merged_model_is_offered(tmp_path: Path, named: str) -> None:
    (tmp_path / "adapter").mkdir()
    for name in ("config.json", WEIGHTS, "adapter/adapter_config.json"):
        (tmp_path / name).write_text("{}")
    weights = {"base_model.model.shared.lora_A.weight": torch.zeros(2, 2)}
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(InputError) as refused:
        inspection.describe(config_of(tmp_path / named))
    message = refused.value.message
    assert "adapter of a model that was trained here" in message.what("en")
    assert message.args["instead"] == str(tmp_path)


def test_an_adapter_is_recognized_by_its_file(tmp_path: Path) -> None:
    save_file({"base_model.model.shared.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match="LoRA"):
        inspection.describe(config_of(tmp_path / "adapter_model.safetensors"))
