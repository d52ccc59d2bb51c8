"""T5 over rows laid end to end: no padding is computed, and each weight is cast once per step.

Takes `T5Modules`, or transformers' T5ForConditionalGeneration or MT5ForConditionalGeneration, unchanged, with its
weights, frozen parts and dropout, and computes what the latter two compute.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.cpu.dropout import RandomBits, Rate
from engine.cpu.prepacking import Prepacked
from engine.cpu.ragged import AttentionPattern, Rows
from engine.cpu.weight_casts import Values
from engine.data.token_store import Row, TokenStore
from engine.models.encoder_cache import CacheShape, Encodings, shared_encodings
from engine.models.lora import adapters_of
from engine.models.loss import Head, logits_of, summed_loss, token_losses
from engine.models.network import Choose, Network, Tokens, labels_of, packs, prompts_of
from engine.models.t5 import layers
from engine.models.t5.decoding import Decoding, greedy
from engine.models.t5.layers import LayerSetting
from engine.models.t5.memory import PREPACKED
from engine.models.t5.modules import is_known
from engine.process.world import World

SCORED = 2048  # tokens, beyond which products do not get faster


def packed_network(model: Any, head: Head | None, chunk: int, *, bf16: bool) -> "PackedT5 | None":
    """The packed network of a T5; None if `PackedT5` cannot compute it, or not on its device."""
    plain = is_known(model.config) and model.get_output_embeddings().bias is None
    if head is None or not plain or not packs(next(model.parameters()).device):
        return None
    return PackedT5(model, torch.bfloat16 if bf16 else torch.float32, chunk)


class PackedT5(Network):
    """A T5 that trains and is scored without padding; `kind` is the dtype of the matrix products."""

    def __init__(self, model: Any, kind: torch.dtype, chunk: int) -> None:
        self.model, self._chunk = model, chunk
        self._values, self._source = Values(kind, adapters_of(model)), RandomBits()
        self._encoder = _Stack(model.encoder, self._values, self._source)
        self._decoder = _Stack(model.decoder, self._values, self._source)
        config = model.config
        self._start = int(config.decoder_start_token_id)
        scaled = config.model_type == "t5" and config.scale_decoder_outputs  # mT5 ignores the setting
        self._scale = config.d_model**-0.5 if scaled else 1.0
        self._head_prepacked: Prepacked | None = None
        self._encodings: Encodings | None = None
        self._encoder_learns = any(p.requires_grad for p in model.encoder.parameters())

    def begin_step(self) -> None:
        """Takes the current weights, and starts the random numbers of a step."""
        self._values.refresh()
        self._source.seed()

    def drop_frozen_fp32(self) -> None:
        """Keeps frozen weights only in the dtype that they are computed in; they can no longer be saved."""
        for parameter in self.model.parameters():
            if not parameter.requires_grad:
                parameter.data = self._values[parameter]
        self._values.forget()

    def encodings_bytes(self, store: TokenStore) -> int | None:
        """The size on disk of the encodings of a file; None if the encoder learns."""
        return None if self._encoder_learns else self._shape(store).bytes

    def keep_encodings(self, store: TokenStore, base: Path, world: World, *, writes: bool) -> bool:
        """Takes the encodings of `store` from files whose names begin with `base`, or from the same computation.

        Every rank calls it; returns False if the files could not be opened. Without `writes` they stay empty.
        """
        shape = self._shape(store)
        self._encodings = shared_encodings(world, store, shape, self._encode_rows, base, writes=writes)
        return self._encodings is not None

    def _shape(self, store: TokenStore) -> CacheShape:
        return CacheShape(store.tokens("prompt"), self.model.config.d_model, self._values.kind)

    def _encode_rows(self, prompts: Sequence[Tensor]) -> list[Tensor]:
        encoded, rows = self.encode(prompts)
        return [encoded[place] for place in rows.places()]

    def scoring_budget(self, budget: int) -> int:
        """Up to four micro-batches: without a backward pass a layer keeps nothing after the next one has begun."""
        return min(4 * budget, max(budget, SCORED))

    def padded(self, lengths: Sequence[tuple[int, int]]) -> int:
        """The number of tokens computed for a micro-batch of these lengths of prompts and labels."""
        return sum(prompt + label for prompt, label in lengths)

    def summed_loss(self, rows: Sequence[Row], samples: Sequence[int] | None = None) -> Tensor:
        """Cross-entropy summed over the label tokens of some rows, float64, with its graph.

        `samples` are the rows' numbers in the training file, by which kept encodings are found.
        """
        if samples is None or self._encodings is None:
            encoded, encoded_rows = self.encode(prompts_of(rows))
        else:
            encoded, encoded_rows = Rows.lay(self._encodings.of(samples))
        labels = labels_of(rows)
        hidden = self._hidden(encoded, encoded_rows, labels)
        return summed_loss(hidden, self._head(), torch.cat(labels), self._chunk)

    @torch.no_grad()
    def row_losses(self, rows: Sequence[Row]) -> list[float]:
        """The same for each row separately, without a graph."""
        labels = labels_of(rows)
        hidden = self._hidden(*self.encode(prompts_of(rows)), labels, prepacked=True)
        module = self.model.get_output_embeddings()
        head = Head(module, module.weight, (), prepacked=self._scoring_head())
        losses = token_losses(hidden, head, torch.cat(labels), self._chunk)
        return [float(part.double().sum()) for part in losses.split([len(label) for label in labels])]

    @torch.no_grad()
    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids."""
        encoded, rows = self.encode(prompts)
        config = self.model.config
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        decoding = Decoding(self.model, self._values, encoded, rows)
        return greedy(decoding, self._embedded, self._logits, self._start, ends, len(prompts), longest)

    @torch.no_grad()
    def reply_tokens(self, prompt: Tensor, choose: Choose) -> Tokens:
        """A reply to one prompt token by token."""
        decoding = Decoding(self.model, self._values, *self.encode([prompt]))
        token = self._start
        for at in itertools.count():
            token = choose(self._logits(decoding.hidden(self._embedded(torch.tensor([token])), at))[0])
            yield token

    def _logits(self, hidden: Tensor) -> Tensor:
        return logits_of((hidden * self._scale).to(self._values.kind), self._scoring_head())

    def _head(self) -> Head:
        module = self.model.get_output_embeddings()
        return Head(module, module.weight, (), self._values[module.weight], self._small_head())

    def _small_head(self) -> Prepacked | None:
        """The prepacked weight of a head that is frozen and small enough to keep two copies of; it is never dropped."""
        weight, kind = self.model.get_output_embeddings().weight, self._values.kind
        if weight.requires_grad or weight.numel() * kind.itemsize > PREPACKED:
            return None
        if self._head_prepacked is None:
            self._head_prepacked = Prepacked(self._values[weight])
        return self._head_prepacked

    def _scoring_head(self) -> Prepacked:
        """The prepacked weight of the head, valid while weights do not change."""
        return self._small_head() or self._values.prepacked(self.model.get_output_embeddings().weight)

    def _hidden(self, encoded: Tensor, rows: Rows, labels: Sequence[Tensor], *, prepacked: bool = False) -> Tensor:
        """The output head's input, (label tokens, d_model), in the dtype of the matrix products."""
        before = [functional.pad(label[:-1], (1, 0), value=self._start) for label in labels]
        ids, label_rows = Rows.lay(before)
        embedded = self._embedded(ids)
        return self._decoder.run(embedded, label_rows, encoded, rows, factor=self._scale, prepacked=prepacked)

    def encode(self, prompts: Sequence[Tensor]) -> tuple[Tensor, Rows]:
        """The encoder's output, (prompt tokens, d_model), in the dtype of the matrix products."""
        ids, rows = Rows.lay(prompts)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._encoder_learns):
            return self._encoder.run(self._embedded(ids), rows), rows

    def _embedded(self, ids: Tensor) -> Tensor:
        """The rows of the embeddings as a residual stream, fp32 at least."""
        weight = self.model.shared.weight
        found = functional.embedding(ids, weight if weight.requires_grad else weight.detach())
        return found.to(torch.promote_types(found.dtype, torch.float32))


@dataclass(frozen=True)
class _Stack:
    """Encoder or decoder."""

    module: Any
    values: Values
    source: RandomBits

    def run(
        self,
        x: Tensor,
        rows: Rows,
        encoded: Tensor | None = None,
        encoded_rows: Rows | None = None,
        *,
        factor: float = 1.0,
        prepacked: bool = False,
    ) -> Tensor:
        """`factor` × the stack's output, (tokens, d_model), in the dtype of the matrix products, from embedded tokens.

        A decoder attends to `encoded`. With `prepacked` there is no backward pass, and there are many products with
        each weight before it changes.
        """
        stack, heads = self.module, self.module.config.num_heads
        x = layers.dropout(x, self._rate(), self.source)
        itself = AttentionPattern(rows, rows, heads, causal=stack.is_decoder)
        bias = self._bias(rows.longest)
        for block in stack.block:
            own, feed = block.layer[0], block.layer[-1]
            weights = self._attention(own.SelfAttention, own.layer_norm, "qkv", prepacked=prepacked)
            setting = self._setting(own, own.SelfAttention.dropout, own.SelfAttention, itself)
            x = layers.self_attention(x, bias, setting, *weights)
            if encoded is not None and encoded_rows is not None:
                cross = block.layer[1]
                weights = self._attention(cross.EncDecAttention, cross.layer_norm, "kv", prepacked=prepacked)
                setting = self._setting(
                    cross,
                    cross.EncDecAttention.dropout,
                    cross.EncDecAttention,
                    AttentionPattern(rows, encoded_rows, heads),
                )
                x = layers.cross_attention(x, encoded, setting, *weights)
            dense = feed.DenseReluDense
            names = ("wi_0", "wi_1", "wo") if stack.config.is_gated_act else ("wi", "wo")
            groups = [[getattr(dense, name).weight] for name in names]
            weights = self._both(feed.layer_norm.weight, groups, prepacked=prepacked)
            x = layers.feed_forward(x, self._setting(feed, dense.dropout.p, dense.dropout), *weights)
        norm = stack.final_layer_norm
        return layers.last(x, norm.weight, norm.variance_epsilon, self._rate(), self.source, factor, self.values.kind)

    def _bias(self, longest: int) -> Tensor:
        """Bias of attention scores by relative position, (heads, longest, longest); a decoder sees no later token."""
        attention = self.module.block[0].layer[0].SelfAttention
        behind, ahead = attention.compute_bias(longest, 1)[0], attention.compute_bias(1, longest)[0]
        # All pairs at one distance share a bias, so its gradient is summed before it reaches the table of biases.
        by_distance = torch.cat([behind[:, :, 0].flip(1), ahead[:, 0, 1:]], dim=1)
        bias: Tensor = by_distance.to(torch.promote_types(by_distance.dtype, torch.float32))
        bias = bias.unfold(1, longest, 1).flip(1)
        if self.module.is_decoder:
            later = torch.ones(longest, longest, dtype=torch.bool, device=bias.device).triu_(1)
            bias = bias.masked_fill(later, torch.finfo(bias.dtype).min)
        return bias

    def _rate(self) -> Rate:
        """The rate of the dropout at the ends of the stack."""
        module = self.module.dropout
        return Rate.of(module.p if module.training else 0.0)

    def _setting(
        self, layer: Any, inner: float, owner: nn.Module, pattern: AttentionPattern | None = None
    ) -> LayerSetting:
        """The settings of a layer: inner dropout is active if `owner` trains, that at its end if its module does."""
        return LayerSetting(
            inner=Rate.of(inner if owner.training else 0.0),
            outer=Rate.of(layer.dropout.p if layer.dropout.training else 0.0),
            epsilon=layer.layer_norm.variance_epsilon,
            source=self.source,
            pattern=pattern,
            activation=self.module.config.dense_act_fn,
        )

    def _attention(
        self, attention: Any, norm: Any, together: str, *, prepacked: bool
    ) -> tuple[layers.Weights, layers.Weights]:
        """The weights of an attention in which those named `together` multiply the same input."""
        alone = [[getattr(attention, name).weight] for name in "qkv" if name not in together]
        group = [getattr(attention, name).weight for name in together]
        return self._both(norm.weight, [*alone, group, [attention.o.weight]], prepacked=prepacked)

    def _both(self, norm: Any, groups: list[list[Any]], *, prepacked: bool) -> tuple[layers.Weights, layers.Weights]:
        """Values in the dtype to compute in, each group as one if they are prepacked, and the parameters."""
        weights = [norm, *(weight for group in groups for weight in group)]
        parameters = [parameter for weight in weights for parameter in self.values.learning(weight)]
        if prepacked:
            return [self.values[norm], *(self.values.together(*group) for group in groups)], parameters
        return [self.values.factor(weight) for weight in weights], parameters
