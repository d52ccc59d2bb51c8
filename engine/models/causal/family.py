"""Decoder-only language models of transformers."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.memory import MemoryFacts
from engine.contract.untrusted import reading_untrusted
from engine.data.batching import Measure
from engine.data.chat.settings import RowKind
from engine.models.causal import described, memory, shape
from engine.models.family import Family
from engine.models.memory import MemoryPlan
from engine.models.model_folder import ModelFolder, Settings
from engine.models.structure import require_decoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.models.loss import Head
    from engine.models.network import Agreement, Network
    from engine.models.sharding import Shards
    from engine.process.world import World

MODEL_TYPES = {
    "afmoe", "apertus", "arcee", "aria_text", "axk1", "axk2", "bailing_hybrid", "bamba", "beam", "biogpt", "bitnet",
    "bloom", "blt", "codegen", "cohere", "cohere2", "cohere2_moe", "cohere_compass_text", "cpmant", "ctrl", "cwm",
    "dbrx", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "diffllama", "doge", "dots1",
    "dots3_note_text", "ernie4_5", "ernie4_5_moe", "exaone4", "exaone_moe", "falcon", "falcon_h1", "falcon_mamba",
    "flex_olmo", "flint", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text", "glm",
    "glm4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox",
    "gpt_neox_japanese", "gpt_oss", "gptj", "granite", "granite_swa", "granitemoe", "granitemoe_swa",
    "granitemoehybrid", "granitemoeshared", "helium", "hrm_text", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3",
    "hy_v4", "hyperclovax", "inkling2_text", "inkling_text", "internlm3", "iquestcoder", "jais2", "jamba", "jetmoe",
    "kimi_linear", "kolibri1", "laguna", "lfm2", "lfm2_moe", "lfm3", "llama", "llama4_text", "longcat_flash", "mamba",
    "mamba2", "mellum", "mimo_v2_flash", "minicpm3", "minimax", "minimax_m2", "minimax_m3_vl_text", "ministral",
    "ministral3", "mistral", "mixtral", "modernbert-decoder", "mpt", "nanochat", "nemotron", "nemotron_h", "olmo",
    "olmo2", "olmo3", "olmo_hybrid", "olmoe", "openai-gpt", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen4_exp_text",
    "recurrent_gemma", "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2", "vaultgemma", "xglm",
    "xlstm", "youtu", "zamba", "zamba2", "zaya",
}  # fmt: skip


class Causal(Family):
    """Every decoder-only language model of transformers, of text alone."""

    name = "causal"
    rows: RowKind = "chat"
    measure = Measure.SUM
    tokens = ("eos",)

    def fits(self, settings: Settings) -> bool:
        """Whether a config.json names one of transformers' families."""
        named = settings.get("model_type")
        return isinstance(named, str) and named in MODEL_TYPES

    def require(self, folder: ModelFolder) -> None:
        """Raises InputError if weights are not a decoder alone, though the config.json says so."""
        if self.fits(folder.settings):
            require_decoder(folder.path, folder.settings, folder.tensors)

    def wrapper(self, folder: ModelFolder) -> str:
        """The prefix before the names that every model of the class has."""
        return described.wrapper_in(folder, described.parsed_config(folder))

    def part_of(self, name: str) -> str:
        """The embeddings, a layer by its number, the last norm, or the head."""
        return shape.part_of(name)

    def describe(self, folder: ModelFolder, config: RunConfig) -> ModelFacts:
        """The facts, by names and shapes alone."""
        return described.of_folder(folder, config)

    def memory(self, facts: ModelFacts, config: RunConfig, plan: MemoryPlan) -> MemoryFacts:
        """The peaks, end to end on the CPU or padded on a GPU."""
        return memory.predicted(facts, config, plan)

    def positions(self, model: Any) -> dict[str, int]:
        """The size of its table of positions, if it has one."""
        most = described.context_of(model.config)
        table = described.has_position_table(name for name, _ in model.named_parameters())
        return {"row": most} if table and most else {}

    def load(self, folder: ModelFolder, wrapper: str, *, packed: bool) -> Any:  # noqa: ARG002
        """transformers' model, in bf16 if that is what its files hold."""
        from transformers import AutoModelForCausalLM

        from engine.models.from_transformers import loaded

        kind = _kind_of(tensor.kind for name, tensor in folder.tensors.items() if not shape.BUFFERS.search(name))
        return loaded(AutoModelForCausalLM, folder.path, wrapper, kind)

    def build(self, settings: dict[str, Any], state: "dict[str, Tensor]", path: Path, *, packed: bool) -> Any:  # noqa: ARG002
        """transformers' model with these weights, each in the dtype that it comes in."""
        import torch
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

        from engine.models.from_transformers import with_weights

        with reading_untrusted("model_bad", path), warnings.catch_warnings(action="ignore"):
            parsed = AutoConfig.for_model(**settings)
            kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(parsed)]
        half = any(tensor.dtype == torch.bfloat16 for tensor in state.values())
        model = with_weights(kind, parsed, state, path, torch.bfloat16 if half else torch.float32)
        for name, parameter in model.named_parameters():
            if name in state and state[name].dtype != parameter.dtype:
                parameter.data = state[name]
        return model

    def network(
        self, model: Any, head: "Head | None", chunk: int, *, bf16: bool, agreement: "Agreement | None" = None
    ) -> "Network":
        """Over rows end to end if that computes the same, else padded."""
        from engine.models.causal.choice import chosen

        return chosen(model, head, chunk, bf16=bf16, agreement=agreement)

    def held_in_bf16(self, model: Any) -> "Sequence[Tensor]":
        """All but those that must be fp32."""
        from engine.models.causal.computed import held_in_bf16

        return held_in_bf16(model)

    def sharded(
        self, model: Any, shards: "Shards", world: "World", *, separable: bool, chunk: int, bf16: bool
    ) -> "Network":
        """Over padded rows."""
        from engine.models.causal.sharded import ShardedCausal

        return ShardedCausal(model, shards, world, separable=separable, chunk=chunk, bf16=bf16)


def _kind_of(kinds: Iterable[str]) -> "torch.dtype":
    """The dtype to load weights of these kinds in: fp32, unless bf16 holds them all."""
    import torch

    return torch.bfloat16 if set(kinds) == {"BF16"} else torch.float32
