"""Encoder-decoder models of transformers: described by its classes, and computed by its code, padded."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.untrusted import reading_untrusted
from engine.models.family import Family
from engine.models.model_folder import ModelFolder, Settings
from engine.models.seq2seq import note
from engine.models.structure import require_encoder_decoder

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.freezing import Parts
    from engine.models.loss import Head
    from engine.models.network import Network

MODEL_TYPES = {
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "fsmt", "led", "longt5", "m2m_100",
    "marian", "mbart", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "seamless_m4t",
    "seamless_m4t_v2", "switch_transformers", "t5gemma", "umt5",
}  # fmt: skip


class Seq2Seq(Family):
    """Every sequence-to-sequence model of transformers, unchanged."""

    name = "seq2seq"
    needed = note.NEEDED

    def fits(self, settings: Settings) -> bool:
        """Whether a config.json names one of transformers' families."""
        named = settings.get("model_type")
        return isinstance(named, str) and named in MODEL_TYPES

    def require(self, folder: ModelFolder) -> None:
        """Raises InputError if weights are not an encoder and a decoder, though the config.json says so."""
        if self.fits(folder.settings):
            require_encoder_decoder(folder.path, folder.settings, folder.tensors)

    def described_by_torch(self, settings: Settings) -> bool:  # noqa: ARG002
        """Yes: transformers' class says what its tensors must be."""
        return True

    def wrapper(self, folder: ModelFolder) -> str:
        """The prefix that is not part of the family's names."""
        from engine.models.seq2seq.described import wrapper_in

        return wrapper_in(folder.path, folder.tensors)

    def describe(self, folder: ModelFolder, config: RunConfig) -> ModelFacts:
        """The facts, from transformers' class, which takes torch and time; so they are cached."""
        found = note.known(folder, config)
        if found is None:
            from engine.models.seq2seq.described import describe

            found = describe(folder, config)
            note.keep(folder, config, found)
        return replace(found, name=str(folder.path), weights_bytes=folder.size)

    def load(self, folder: ModelFolder, wrapper: str, *, packed: bool) -> Any:  # noqa: ARG002
        """transformers' model."""
        from transformers import AutoModelForSeq2SeqLM

        from engine.models.from_transformers import loaded

        return loaded(AutoModelForSeq2SeqLM, folder.path, wrapper)

    def build(self, settings: dict[str, Any], state: "dict[str, Tensor]", path: Path, *, packed: bool) -> Any:  # noqa: ARG002
        """transformers' model with these weights."""
        from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoConfig

        from engine.models.from_transformers import with_weights

        with reading_untrusted("model_bad", path), warnings.catch_warnings(action="ignore"):
            parsed = AutoConfig.for_model(**settings)
            kind = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(parsed)]
        return with_weights(kind, parsed, state, path)

    def parts(self, model: Any) -> "Parts":
        """The embeddings, and encoder and decoder without them."""
        from engine.models.seq2seq.described import parts

        return parts(model)

    def positions(self, model: Any) -> dict[str, int]:
        """The sizes of the tables of positions of encoder and decoder."""
        from engine.models.seq2seq.described import positions

        return positions(model)

    def head_inputs(self, ids: "Tensor") -> "dict[str, Tensor]":
        """A prompt, and the first tokens of a label."""
        return {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape), "decoder_input_ids": ids[:, :4]}

    def network(self, model: Any, head: "Head | None", chunk: int, *, bf16: bool, **_more: Any) -> "Network":
        """transformers' own forward pass over padded rows, under autocast."""
        from engine.models.seq2seq.padded import PaddedNetwork  # loads transformers' models, which packed ones avoid

        return PaddedNetwork(model, head, chunk, autocast=bf16)

    def held_in_bf16(self, model: Any) -> "Sequence[Tensor]":
        """Those of linear layers."""
        from engine.models.seq2seq.padded import frozen_linear

        return [layer.weight for layer in frozen_linear(model)]
