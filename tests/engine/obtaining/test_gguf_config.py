"""What a GGUF file says of its model, and what would be lost of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from engine.contract.messages import InputError
from engine.obtaining.gguf_config import LLAMA3, completed, require_convertible
from engine.obtaining.gguf_file import GgufFile, read
from tests.gguf_files import small_llama, write_gguf


def written(folder: Path, **how: Any) -> GgufFile:
    return read(write_gguf(folder / "tiny.gguf", small_llama(), **how))


def refused(file: GgufFile) -> InputError:
    with pytest.raises(InputError) as error:
        require_convertible(file)
    assert error.value.message.fix()
    return error.value


def factors(factor: float) -> Any:
    """What llama.cpp's converter writes for Llama 3's scaled rope: each frequency's divisor."""
    scaled = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": factor, **LLAMA3}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, head_dim=16, rope_parameters=scaled)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / 10_000.0 ** (np.arange(0, 16, 2) / 16)
    return plain / frequencies.numpy()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_scaled_rope_of_llama_3_is_found_again(tmp_path: Path, factor: float) -> None:
    file = written(tmp_path, more={"rope_freqs.weight": factors(factor)})
    require_convertible(file)
    config = SimpleNamespace(rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"})
    completed(config, file)
    assert config.rope_parameters == {"rope_theta": 10_000.0, "rope_type": "llama3", "factor": factor, **LLAMA3}


def test_factors_of_another_rope_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, more={"rope_freqs.weight": np.linspace(1, 5, 8)})
    config = SimpleNamespace(rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"})
    with pytest.raises(InputError) as error:
        completed(config, file)
    assert error.value.message.code == "gguf_unknown"


def test_numbers_become_the_decimals_they_were_made_from(tmp_path: Path) -> None:
    config = SimpleNamespace(
        rms_norm_eps=float(np.float32(1e-5)), other=0.1, rope_parameters={"x": float(np.float32(1e-6))}
    )
    completed(config, written(tmp_path))
    assert (config.rms_norm_eps, config.other, config.rope_parameters) == (1e-5, 0.1, {"x": 1e-6})


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"general.type": "adapter"}, "gguf_part"),
        ({"general.type": "mmproj"}, "gguf_part"),
        ({"split.count": 3}, "gguf_split"),
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "gguf_unknown"),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}, "gguf_unknown"),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path: Path, keys: dict[str, Any], code: str) -> None:
    assert refused(written(tmp_path, keys=keys)).message.code == code


def test_a_scaling_by_one_is_none(tmp_path: Path) -> None:
    require_convertible(written(tmp_path, keys={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0}))


@pytest.mark.parametrize("name", ["rwkv7", "bert", "t5", "clip", "\x1b[2J"])
def test_an_unknown_architecture_is_named(tmp_path: Path, name: str) -> None:
    assert refused(written(tmp_path, architecture=name)).message.code in ("gguf_unknown", "gguf_part")


def test_the_model_that_it_was_made_from_is_offered(tmp_path: Path) -> None:
    keys = {"general.base_model.0.repo_url": "https://huggingface.co/me/base"}
    assert "`sft-tui model get me/base`" in refused(written(tmp_path, keys=keys, architecture="rwkv7")).message.fix()
