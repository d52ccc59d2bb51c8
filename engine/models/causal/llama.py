"""Models of Llama's kind over rows laid end to end, by layers whose backward pass is written out.

Takes transformers' Llama, Mistral, Qwen2 or Qwen3, unchanged, and computes what they compute: RMSNorm, rotary
positions, heads that share keys, and a feed-forward gated by SiLU.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.cpu.kernels import kernels_for
from engine.cpu.ragged import CausalPattern, Rows
from engine.cpu.weight_casts import Adapters, Values
from engine.data.token_store import Row
from engine.models.causal import layers
from engine.models.causal.computed import Given
from engine.models.causal.decoding import Cache
from engine.models.causal.layers import Norm, Positions
from engine.models.causal.packed import PackedCausal
from engine.models.causal.shape import declared
from engine.models.causal.stacked import Projections
from engine.models.lora import adapters_of
from engine.models.loss import Head, logits_of

CLASSES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
ROTATIONS = ("default", "linear", "llama3", "yarn")  # whose angles depend on nothing but the position

LARGE = 512  # tokens of a micro-batch from which prepacked weights save 7 % of its backward pass, and not 3


def is_known(model: Any) -> bool:
    """Whether `Llama` can compute a model."""
    config = model.config
    rope = config.rope_parameters if type(model).__name__ in CLASSES else {"rope_type": ""}
    return rope["rope_type"] in ROTATIONS and config.hidden_act == "silu" and not config.attention_dropout


class Llama:
    """Computes a model's body; `kind` is the dtype of its products."""

    def __init__(self, model: Any, kind: torch.dtype, adapters: Adapters) -> None:
        self.kind, self._body = kind, model.base_model
        self.values, self.projections = Values(kind), Projections(kind, adapters)

    def refresh(self) -> None:
        """Takes the current weights."""
        self.values.refresh()
        self.projections.refresh()

    def hidden(self, ids: Tensor, rows: Rows, places: Tensor) -> Tensor:
        """The output head's input at some places, (places, width), from the ids of rows laid end to end."""
        body, x = self._body, self.embedded(ids)
        angles = self.angles(torch.cat([torch.arange(length) for length in rows.lengths]))
        large = len(ids) >= LARGE and torch.is_grad_enabled()
        for layer in body.layers:
            x = self._attended(layer, x, rows, angles, large=large)
            feed, norm = layer.mlp, layer.post_attention_layernorm
            into = self.projections.of(feed.gate_proj, feed.up_proj, large=large)
            out = self.projections.of(feed.down_proj, large=large)
            x = layers.feed_forward(x, self.norm(norm), into, out, norm.weight)
        return layers.last(x, places, self.norm(body.norm), body.norm.weight)

    def _attended(self, layer: Any, x: Tensor, rows: Rows, angles: Tensor, *, large: bool) -> Tensor:
        attention = layer.self_attn
        into = self.projections.of(attention.q_proj, attention.k_proj, attention.v_proj, large=large)
        out = self.projections.of(attention.o_proj, large=large)
        norm, heads = layer.input_layernorm, head_norms(attention)
        positions = Positions(self.pattern(attention, rows), angles, tuple(map(self.norm, heads)))
        scales = [each.weight for each in (norm, *heads)]
        return layers.attention(x, self.norm(norm), into, out, positions, scales)

    def ahead(self, ids: Tensor, positions: Tensor, cache: Cache, places: Tensor) -> Tensor:
        """The output head's input at some places, (places, width), whose tokens enter the cache.

        `ids` and `positions` are (tokens,): of prompts laid end to end, or one of each row.
        """
        body, x, angles = self._body, self.embedded(ids), self.angles(positions)
        for number, layer in enumerate(body.layers):
            attention, feed = layer.self_attn, layer.mlp
            norm, heads = layer.input_layernorm, tuple(map(self.norm, head_norms(attention)))
            given = self._product(self._normed(x, norm), attention.q_proj, attention.k_proj, attention.v_proj)
            rows = Rows((1,) * len(ids)) if cache.prompts is None else cache.prompts[1]
            where = Positions(self.pattern(attention, rows), angles, heads)
            where.normed(given)
            where.rotate(given)
            y = self._product(_attended(given, where, cache, number), attention.o_proj)
            x = kernels_for(y).residual(x, y, None, 1.0)
            both = self._product(self._normed(x, layer.post_attention_layernorm), feed.gate_proj, feed.up_proj)
            y = self._product(kernels_for(both).swiglu(both), feed.down_proj)
            x = kernels_for(y).residual(x, y, None, 1.0)
        return self._normed(x[places], body.norm)

    def _product(self, x: Tensor, *linears: Any) -> Tensor:
        return self.projections.of(*linears, prepacked=True).times(x)[0]

    def _normed(self, x: Tensor, module: Any) -> Tensor:
        norm = self.norm(module)
        return kernels_for(norm.scale).normed(x, norm.scale, norm.epsilon)[1]

    def embedded(self, ids: Tensor) -> Tensor:
        """The rows of the embeddings as a residual stream, fp32 at least."""
        weight = self._body.embed_tokens.weight
        if weight.requires_grad and torch.is_grad_enabled():
            apply = cast(Callable[..., Tensor], _Embedded.apply)
            found = apply(torch.empty(0, requires_grad=True), ids, (weight,))
        else:
            found = functional.embedding(ids, weight.detach())
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def angles(self, positions: Tensor) -> Tensor:
        """Cosines and sines of the angles of positions (tokens,), (tokens, 2 × pairs)."""
        weight = self._body.norm.weight
        whole = torch.empty(0, dtype=torch.promote_types(weight.dtype, torch.float32))
        both = (part[0] for part in self._body.rotary_emb(whole, positions[None]))
        return torch.cat([part[:, : part.shape[1] // 2] for part in both], dim=1)

    def norm(self, module: Any) -> Norm:
        """A norm's scale and epsilon."""
        return Norm(self.values[module.weight], module.variance_epsilon)

    def pattern(self, attention: Any, rows: Rows) -> CausalPattern:
        """How tokens attend in a layer."""
        heads = attention.q_proj.weight.shape[0] // attention.head_dim
        # Mistral has one for all layers, Qwen one for some, and Llama none, whatever its config.json names.
        window = getattr(attention, "sliding_window", declared(attention.config, "sliding_window")) or 0
        return CausalPattern(rows, heads, heads // attention.num_key_value_groups, attention.scaling, window)


def head_norms(attention: Any) -> list[Any]:
    """The norms of the heads of queries and of those of keys, if an attention has them."""
    return [getattr(attention, name) for name in ("q_norm", "k_norm") if hasattr(attention, name)]


def _attended(given: Tensor, where: Positions, cache: Cache, layer: int) -> Tensor:
    """The attention of new tokens to those in the cache and to themselves; keys and values enter the cache."""
    pattern, kernels = where.pattern, kernels_for(given)
    if cache.prompts is None:
        return kernels.causal_step(given, *cache.of(layer), cache.counts.numpy() + 1, pattern)
    _, key, value = where.parts(given)
    of_heads = [part.unflatten(1, (pattern.groups, -1)) for part in (key, value)]
    cache.update(*(part.transpose(0, 1)[None] for part in of_heads), layer)
    if not cache.shared:
        return kernels.causal(*where.parts(given), pattern)[0]
    whole, own = _with_shared(given, where, cache, layer)
    rows = Rows(tuple(cache.shared + length for length in pattern.rows.lengths))
    return kernels.causal(*where.parts(whole), replace(pattern, rows=rows))[0][own]


def _with_shared(given: Tensor, where: Positions, cache: Cache, layer: int) -> tuple[Tensor, Tensor]:
    """Queries, keys and values with those of the shared tokens before each row, and where the given ones then are.

    The queries of shared tokens are zeros: what they attend to is known.
    """
    rows, shared = where.pattern.rows, cache.shared
    own = torch.arange(len(given)) + shared * (1 + torch.arange(len(rows.lengths))).repeat_interleave(
        torch.tensor(rows.lengths)
    )
    firsts = torch.from_numpy(rows.ends[:-1]) + shared * torch.arange(len(rows.lengths))
    whole = given.new_zeros(len(given) + shared * len(rows.lengths), given.shape[1])
    whole[own] = given
    places = firsts[:, None] + torch.arange(shared)
    for part, kept in zip(where.parts(whole)[1:], cache.of(layer), strict=True):
        part[places] = kept[0, :, :shared].transpose(0, 1).flatten(1)
    return whole, own


class _Embedded(torch.autograd.Function):
    """Rows of the embeddings, whose gradients are added to that of all of them.

    The head, which may have the same weight, comes earlier in the backward pass. Autograd would hold its gradient until
    the end, and make a third tensor of that size of the sum: 113 MB each of SmolLM2-135M.
    """

    @staticmethod
    def forward(ctx: Any, _: Tensor, ids: Tensor, weights: tuple[nn.Parameter]) -> Tensor:
        # In a tuple, or autograd would wait with the gradient of the head for one from here.
        ctx.saved = (ids, weights[0])
        return functional.embedding(ids, weights[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        ids, weight = ctx.saved
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids, gradient)
        return None, None, None


class LlamaNetwork(PackedCausal):
    """Such a model as a network."""

    _shares = True

    def __init__(self, model: Any, head: Head, chunk: int, *, bf16: bool) -> None:
        super().__init__(model, head, chunk, bf16=bf16)
        self._head: Head = head
        self._llama = Llama(model, torch.bfloat16 if bf16 else torch.float32, adapters_of(model))
        self.begin_step()

    def begin_step(self) -> None:
        """Takes the current weights."""
        self._llama.refresh()

    def drop_frozen_fp32(self) -> None:
        """Keeps frozen weights only in the dtype that they are computed in; they can no longer be saved."""
        super().drop_frozen_fp32()
        self._llama.values.forget()
        self.begin_step()

    def _given(self, rows: Sequence[Row]) -> Given:
        given, places = super()._given(rows)
        return {"ids": given["input_ids"][0], "rows": Rows(tuple(len(row.ids) for row in rows))}, places

    @contextmanager
    def _computing(self, rows: Sequence[Row]) -> Iterator[None]:  # noqa: ARG002
        """Layers compute in their own dtypes, and the head in a cast of its weight that no one holds afterwards."""
        head = self._head
        self._head = replace(head, value=self._llama.values.cast(self.model.get_output_embeddings().weight))
        try:
            yield
        finally:
            self._head = head

    def _hidden(self, _: Head, given: Given) -> Tensor:
        """The output head's input at the places of learned tokens, (N, d_model)."""
        inputs, places = given
        return self._llama.hidden(inputs["ids"], inputs["rows"], places)

    def _ahead(self, inputs: dict[str, Tensor], cache: Cache, places: Tensor) -> Tensor:
        """The most likely token after each of some places, (places,)."""
        ids, positions = inputs["input_ids"].flatten(), inputs["position_ids"].flatten()
        hidden = self._llama.ahead(ids, positions, cache, places)
        logits = logits_of(hidden, self._llama.values.prepacked(self.model.get_output_embeddings().weight))
        return kernels_for(logits).largest(logits)
