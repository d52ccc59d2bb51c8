"""Any sequence-to-sequence model of transformers, run unchanged on rows padded to the longest of them."""

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from engine.cpu import placement
from engine.cpu.kernels import kernels_for
from engine.data.token_store import Row, TokenStore
from engine.models.encoder_cache import CacheShape, Encodings, shared_encodings
from engine.models.loss import Head, summed_loss, summed_loss_of_logits, token_losses
from engine.models.network import Choose, Network, Tokens, labels_of, prompts_of
from engine.models.padding import Uploads, attention_mask, rows_of
from engine.process.world import World

IGNORED = -100  # label of padding
# Those whose decoder uses the encoder's output in matrix products alone, which are the same in whatever batch.
ENCODED = {"bart", "blenderbot", "marian", "mbart", "mt5", "pegasus", "t5"}


class PaddedNetwork(Network):
    """A model that trains and is scored on padded rows, under autocast to bf16 if `autocast` is set."""

    def __init__(self, model: Any, head: Head | None, chunk: int, *, autocast: bool) -> None:
        self.model, self._head, self._chunk, self._autocast = model, head, chunk, autocast
        self._device = next(model.parameters()).device
        self._kind = torch.bfloat16 if autocast else torch.float32  # of products
        self._uploads = Uploads(self._laid_out, self._device)
        self._encodings: Encodings | None = None
        self._uploads_encoded = Uploads(self._laid_out_without_prompts, self._device)
        self._encoded: deque[tuple[Sequence[int], Tensor]] = deque()  # those of a step that were sent ahead

    def send(self, micro_batches: Sequence[Sequence[Row]], samples: Sequence[Sequence[int]]) -> None:
        """Brings the rows of a step to the device by one copy, and kept encodings by another."""
        if self._encodings is None:
            self._uploads.send(micro_batches)
        else:
            self._uploads_encoded.send(micro_batches)
            self._encoded = deque(zip(samples, self._encodings_of(self._encodings, samples), strict=True))

    def drop_frozen_fp32(self) -> None:
        """Keeps frozen weights of linear layers only in the dtype that autocast gives them at every product."""
        if self._autocast:
            for layer in frozen_linear(self.model):
                layer.weight.data = layer.weight.data.bfloat16()

    def encodings_bytes(self, store: TokenStore) -> int | None:
        """The size on disk of the encodings of a file; None if the encoder learns, and on the processor."""
        learns = any(parameter.requires_grad for parameter in self.model.get_encoder().parameters())
        if learns or self.model.config.model_type not in ENCODED or placement.on_host(next(self.model.parameters())):
            return None
        return self._shape(store).bytes

    def keep_encodings(self, store: TokenStore, base: Path, world: World, *, writes: bool) -> bool:
        """Takes the encodings of `store` from files whose names begin with `base`, or from the same computation."""
        self._encodings = shared_encodings(world, store, self._shape(store), self._encode, base, writes=writes)
        return self._encodings is not None

    def _shape(self, store: TokenStore) -> CacheShape:
        return CacheShape(store.tokens("prompt"), int(self.model.config.hidden_size), self._kind)

    @torch.no_grad()
    def _encode(self, prompts: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's output for each prompt, (tokens, width), on the device."""
        lengths = [len(prompt) for prompt in prompts]
        padded = list(pad_prompts(prompts, int(self.model.config.pad_token_id)))
        ids, mask = placement.uploaded(padded, self._device)
        with self._in_its_kind(), rows_of(lengths):
            found = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return [row[:length] for row, length in zip(found.to(self._kind), lengths, strict=True)]

    def _encodings_of(self, encodings: Encodings, samples: Sequence[Sequence[int]]) -> list[Tensor]:
        """The encodings of some micro-batches on the device, each (rows, longest, width)."""
        found = iter(placement.all_on(encodings.of([sample for some in samples for sample in some]), self._device))
        return [nn.utils.rnn.pad_sequence([next(found) for _ in some], batch_first=True) for some in samples]

    def _taken(self, encodings: Encodings, samples: Sequence[int]) -> Tensor:
        """The encodings of a micro-batch, which are brought to the device now unless they were sent."""
        if self._encoded and self._encoded[0][0] is samples:
            return self._encoded.popleft()[1]
        return self._encodings_of(encodings, [samples])[0]

    def summed_loss(self, rows: Sequence[Row], samples: Sequence[int] | None = None) -> Tensor:
        """Cross-entropy summed over the label tokens of some rows, float64, with its graph.

        `samples` are the rows' numbers in the training file, by which kept encodings are found.
        """
        inputs, places, targets = self._batch(rows, samples)
        with self._in_its_kind(), self._masks(rows):
            if self._head is None:
                logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[places].float()
                return summed_loss_of_logits(logits, targets)
            hidden = self._head.hidden(self.model, inputs).flatten(0, 1)[places]
            return summed_loss(hidden, self._head, targets, self._chunk)

    @torch.no_grad()
    def row_losses(self, rows: Sequence[Row]) -> list[float]:
        """The same for each row separately, without a graph."""
        inputs, places, targets = self._batch(rows)
        with self._in_its_kind(), self._masks(rows):
            if self._head is None:
                logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[places].float()
                losses = kernels_for(logits).losses(logits, targets, gradient=False)
            else:
                hidden = self._head.hidden(self.model, inputs).flatten(0, 1)[places]
                losses = token_losses(hidden, self._head, targets, self._chunk)
        return [float(part.double().sum()) for part in losses.cpu().split([len(row.label) for row in rows])]

    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids; see `greedy_replies`."""
        ids, mask = pad_prompts(prompts, int(self.model.config.pad_token_id))
        with self._in_its_kind():
            return greedy_replies(self.model, ids.to(self._device), mask.to(self._device), longest)

    @torch.no_grad()
    def reply_tokens(self, prompt: Tensor, choose: Choose) -> Tokens:
        """A reply to one prompt token by token."""
        ids, config = prompt[None].to(self._device), self.model.config
        with self._in_its_kind():
            given: dict[str, Any] = {"encoder_outputs": self.model.get_encoder()(ids), **_cache_for(config)}
        token = int(config.decoder_start_token_id)
        while True:
            with self._in_its_kind():
                found = self.model(**given, decoder_input_ids=ids.new_tensor([[token]]), use_cache=True)
            given["past_key_values"] = found.past_key_values
            token = choose(found.logits[0, -1])
            yield token

    def _batch(
        self, rows: Sequence[Row], samples: Sequence[int] | None = None
    ) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The model's inputs, the places of label tokens among all of its outputs, and these tokens.

        Of `samples` kept encodings are an input in place of prompts, if there are any.
        """
        if samples is None or self._encodings is None:
            ids, lengths, before, places, targets = self._uploads.take(rows)
            given: dict[str, Any] = {"input_ids": ids}
        else:
            lengths, before, places, targets = self._uploads_encoded.take(rows)
            given = {"encoder_outputs": BaseModelOutput(last_hidden_state=self._taken(self._encodings, samples))}
        mask = attention_mask(lengths, max(len(row.prompt) for row in rows))
        return {**given, "attention_mask": mask, "decoder_input_ids": before}, places, targets

    def _laid_out(self, rows: Sequence[Row]) -> list[Tensor]:
        """What `_batch` takes, made on the host, so that nothing on the device has to be waited for."""
        ids, _ = pad_prompts(prompts_of(rows), int(self.model.config.pad_token_id))
        return [ids, *self._laid_out_without_prompts(rows)]

    def _laid_out_without_prompts(self, rows: Sequence[Row]) -> list[Tensor]:
        """The same but for the ids of prompts."""
        labels = labels_of(rows)
        before = decoder_inputs(self.model, pad_labels(labels))
        places = [torch.arange(len(label)) + at * before.shape[1] for at, label in enumerate(labels)]
        return [torch.tensor([len(row.prompt) for row in rows]), before, torch.cat(places), torch.cat(labels)]

    def _masks(self, rows: Sequence[Row]) -> AbstractContextManager[None]:
        return rows_of([len(row.prompt) for row in rows])

    def _in_its_kind(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)


def frozen_linear(model: Any) -> list[nn.Linear]:
    """The linear layers but the head whose weights do not learn and are used nowhere else, such as in an embedding."""
    uses = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    return [
        layer
        for layer in linear
        if layer is not model.get_output_embeddings() and not layer.weight.requires_grad and uses[id(layer.weight)] == 1
    ]


def pad_labels(labels: Sequence[Tensor]) -> Tensor:
    """Labels of unequal length, (rows, longest), padded with what no loss counts."""
    return nn.utils.rnn.pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)


def pad_prompts(prompts: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Prompts of unequal length as ids and attention mask, both (rows, longest)."""
    ids = nn.utils.rnn.pad_sequence(list(prompts), batch_first=True, padding_value=pad)
    return ids, attention_mask(torch.tensor([len(prompt) for prompt in prompts]), ids.shape[1])


def decoder_inputs(model: Any, labels: Tensor) -> Tensor:
    """The decoder's input ids for padded labels, which are shifted by the model's own rule."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        shifted: Tensor = model.prepare_decoder_input_ids_from_labels(labels=labels)
    else:
        start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == IGNORED, model.config.pad_token_id)


@torch.no_grad()
def greedy_replies(model: Any, ids: torch.Tensor, mask: torch.Tensor, longest: int) -> list[list[int]]:
    """Generates the most likely next token repeatedly, with a key-value cache; (rows, length) in, token ids out."""
    settings = GenerationConfig(
        max_new_tokens=longest,
        num_beams=1,
        do_sample=False,
        use_cache=True,
        pad_token_id=model.config.pad_token_id,
        eos_token_id=model.config.eos_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
    )
    own = model.generation_config
    model.generation_config = settings  # the model's own settings, such as a repetition penalty, would not be greedy
    try:
        replies = model.generate(
            input_ids=ids, attention_mask=mask, generation_config=settings, **_cache_for(model.config)
        )
    finally:
        model.generation_config = own
    return [list(map(int, reply)) for reply in replies.tolist()]


def _cache_for(config: Any) -> dict[str, Any]:
    """A cache that grows with the decoder, if the one that transformers would make is too small.

    transformers 5.23 gives a T5's cache as many layers as the encoder has, which fails if the decoder is deeper.
    """
    if getattr(config, "num_decoder_layers", 0) <= getattr(config, "num_hidden_layers", 0):
        return {}
    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}
