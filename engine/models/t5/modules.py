"""A T5's weights and settings under transformers' names, for `PackedT5`, which computes with them.

transformers' own classes would also work, but importing them takes 90 MB and two seconds: more than a small model.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.t5 import shape
from engine.models.t5.layers import ACTIVATIONS

CLASSES = dict(zip(shape.MODEL_TYPES, ("T5ForConditionalGeneration", "MT5ForConditionalGeneration"), strict=True))


def is_known(config: Any) -> bool:
    """Whether `PackedT5` can compute models of this configuration."""
    if config.model_type not in CLASSES:
        return False
    return config.dense_act_fn in ACTIVATIONS if config.is_gated_act else config.dense_act_fn == "relu"


class T5Modules(nn.Module):
    """T5 or mT5 whose output head is its embeddings; it has no forward pass of its own."""

    plain_head = True  # logits are its weight times its input, without anything else

    def __init__(self, config: Any, generation_config: Any, state: Mapping[str, Tensor]) -> None:
        """Takes the weights `state`, fp32, without copying; raises ValueError if they are not those of such a model."""
        super().__init__()
        self.config, self.generation_config = config, generation_config
        self.architecture = CLASSES[config.model_type]
        weights = dict(state)
        shared = weights.get(shape.SHARED)
        for name in {*shape.EMBEDDED, shape.HEAD} & weights.keys():
            if shared is None or not _same(weights.pop(name), shared):
                raise ValueError(f"{name} is not {shape.SHARED}")
        wanted = shape.tensors_of({**config.to_dict(), "tie_word_embeddings": True})

        def take(name: str) -> _Weight:
            tensor, described = weights.pop(f"{name}.weight", None), wanted[f"{name}.weight"]
            if tensor is None or tensor.shape != described.shape or not tensor.is_floating_point():
                raise ValueError(f"{name}.weight is missing or of another shape")
            return (_Linear if name.rpartition(".")[2] in shape.LINEAR else _Weight)(tensor)

        self.shared = take("shared")
        self.encoder = _StackModules(config, self.shared, take, "encoder", config.num_layers)
        self.decoder = _StackModules(config, self.shared, take, "decoder", config.num_decoder_layers)
        self.lm_head = _Weight(self.shared.weight)
        if weights:
            raise ValueError(f"{min(weights)} has no place")

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of prompts and replies."""
        return self.shared

    def get_output_embeddings(self) -> nn.Module:
        """The output head; its weight is the embeddings'."""
        return self.lm_head

    def get_encoder(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def get_decoder(self) -> nn.Module:
        """The decoder."""
        return self.decoder


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)


class _Weight(nn.Module):
    """The weight of an embedding or of a norm, and what all weights have in common."""

    bias: Any = None
    weight: Any

    def __init__(self, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.to(torch.float32))


class _Linear(_Weight, nn.Linear):
    """The weight of a linear layer without bias."""


Take = Callable[[str], _Weight]  # returns the weight of a name


class _StackModules(nn.Module):
    """Encoder or decoder."""

    def __init__(self, config: Any, shared: nn.Module, take: Take, name: str, layers: int) -> None:
        super().__init__()
        self.config, self.is_decoder = config, name == "decoder"
        self.embed_tokens = shared
        self.block = nn.ModuleList(
            _Block(config, take, f"{name}.block.{number}", is_decoder=self.is_decoder, first=number == 0)
            for number in range(layers)
        )
        self.final_layer_norm = _norm(config, take, f"{name}.final_layer_norm")
        self.dropout = nn.Dropout(config.dropout_rate)


class _Block(nn.Module):
    def __init__(self, config: Any, take: Take, name: str, *, is_decoder: bool, first: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Layer(config, take, f"{name}.layer.0", "SelfAttention", is_decoder, bias=first)]
        if is_decoder:
            layers.append(_Layer(config, take, f"{name}.layer.1", "EncDecAttention", is_decoder))
        layers.append(_Layer(config, take, f"{name}.layer.{len(layers)}", "DenseReluDense", is_decoder))
        self.layer = nn.ModuleList(layers)


class _Layer(nn.Module):
    """Attention or feed-forward with its norm; `part` is its attribute name, and its weights' prefix."""

    def __init__(self, config: Any, take: Take, name: str, part: str, is_decoder: bool, *, bias: bool = False) -> None:
        super().__init__()
        place = f"{name}.{part}"
        dense = part == "DenseReluDense"
        inner = (
            _FeedForwardModules(config, take, place)
            if dense
            else _Attention(config, take, place, is_decoder, bias=bias)
        )
        self.add_module(part, inner)
        self.layer_norm = _norm(config, take, f"{name}.layer_norm")
        self.dropout = nn.Dropout(config.dropout_rate)


class _FeedForwardModules(nn.Module):
    def __init__(self, config: Any, take: Take, name: str) -> None:
        super().__init__()
        for part in ("wi_0", "wi_1") if config.is_gated_act else ("wi",):
            self.add_module(part, take(f"{name}.{part}"))
        self.wo = take(f"{name}.wo")
        self.dropout = nn.Dropout(config.dropout_rate)


class _Attention(nn.Module):
    def __init__(self, config: Any, take: Take, name: str, is_decoder: bool, *, bias: bool) -> None:
        super().__init__()
        self.dropout, self._both_ways = config.dropout_rate, not is_decoder
        self._buckets, self._furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
        for part in ("q", "k", "v", "o"):
            self.add_module(part, take(f"{name}.{part}"))
        if bias:
            self.relative_attention_bias = take(f"{name}.relative_attention_bias")

    def compute_bias(self, queries: int, keys: int) -> Tensor:
        """Bias of attention scores by relative position, (1, heads, queries, keys).

        Distances up to half of a direction's buckets have one bucket each; longer ones share the rest by their
        logarithms. After Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
        Transformer" (2020), 2.1.
        """
        ahead = torch.arange(keys)[None, :] - torch.arange(queries)[:, None]
        buckets = self._buckets // 2 if self._both_ways else self._buckets
        distance = ahead.abs() if self._both_ways else -ahead.clamp(max=0)
        exact = buckets // 2
        share = torch.log(distance.float() / exact) / math.log(self._furthest / exact)
        far = (exact + (share * (buckets - exact)).to(torch.long)).clamp(max=buckets - 1)
        bucket = torch.where(distance < exact, distance, far)
        if self._both_ways:
            bucket = bucket + (ahead > 0) * buckets
        return functional.embedding(bucket, self.relative_attention_bias.weight).permute(2, 0, 1)[None]


def _norm(config: Any, take: Take, name: str) -> _Weight:
    norm = take(name)
    norm.variance_epsilon = config.layer_norm_epsilon
    return norm
