"""Any sequence-to-sequence model of transformers, run unchanged on rows padded to the longest of them."""

from collections import Counter
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
        self._without_prompts = Uploads(lambda rows: self._laid_out(rows)[1:], self._device)  # which are encoded
        self._encodings: Encodings | None = None

    def send(self, micro_batches: Sequence[Sequence[Row]]) -> None:
        """Brings the rows of a step to the device by one copy, without prompts whose encodings are kept."""
        (self._uploads if self._encodings is None else self._without_prompts).send(micro_batches)

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
        """The encoder's output for each prompt, (tokens, width), on the host."""
        lengths = [len(prompt) for prompt in prompts]
        ids, mask = (each.to(self._device) for each in pad_prompts(prompts, int(self.model.config.pad_token_id)))
        with self._in_its_kind(), rows_of(lengths):
            found = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return [row[:length] for row, length in zip(found.to(self._kind).cpu(), lengths, strict=True)]

    def summed_loss(self, rows: Sequence[Row], samples: Sequence[int] | None = None) -> Tensor:
        """Cross-entropy summed over the label tokens of some rows, float64, with its graph.

        `samples` are the rows' numbers in the training file, by which kept encodings are found.
        """
        kept = self._encodings if samples is not None else None
        inputs, places, targets = self._batch(rows) if kept is None else self._encoded(rows, kept.of(samples or ()))
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

    def _batch(self, rows: Sequence[Row]) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The model's inputs, the places of label tokens among all of its outputs, and these tokens."""
        ids, lengths, before, places, targets = self._uploads.take(rows)
        mask = attention_mask(lengths, ids.shape[1])
        return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": before}, places, targets

    def _encoded(self, rows: Sequence[Row], kept: list[Tensor]) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The same with the encodings of these rows in place of their prompts."""
        lengths, before, places, targets = self._without_prompts.take(rows)
        encodings = nn.utils.rnn.pad_sequence(kept, batch_first=True)
        output = BaseModelOutput(last_hidden_state=placement.copied(encodings, self._device))
        mask = attention_mask(lengths, encodings.shape[1])
        return {"attention_mask": mask, "decoder_input_ids": before, "encoder_outputs": output}, places, targets

    def _laid_out(self, rows: Sequence[Row]) -> list[Tensor]:
        """What `_batch` takes, made on the host, so that nothing on the device has to be waited for."""
        batch = micro_batch(rows, int(self.model.config.pad_token_id), torch.device("cpu"))
        inputs = model_inputs(self.model, batch)
        width = batch["labels"].shape[1]
        places = [torch.arange(len(row.label)) + at * width for at, row in enumerate(rows)]
        lengths = torch.tensor([len(row.prompt) for row in rows])
        targets = torch.cat(labels_of(rows))
        return [inputs["input_ids"], lengths, inputs["decoder_input_ids"], torch.cat(places), targets]

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


def micro_batch(rows: Sequence[Row], pad: int, device: torch.device) -> dict[str, Tensor]:
    """Some rows as tensors (rows, longest): input_ids, attention_mask, labels (padding is -100)."""
    ids, mask = pad_prompts(prompts_of(rows), pad)
    targets = nn.utils.rnn.pad_sequence(labels_of(rows), batch_first=True, padding_value=IGNORED)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": targets.to(device)}


def pad_prompts(prompts: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Prompts of unequal length as ids and attention mask, both (rows, longest)."""
    ids = nn.utils.rnn.pad_sequence(list(prompts), batch_first=True, padding_value=pad)
    return ids, attention_mask(torch.tensor([len(prompt) for prompt in prompts]), ids.shape[1])


def model_inputs(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's inputs in place of labels: the decoder's input ids, shifted by the model's own rule."""
    labels = batch["labels"]
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        shifted = model.prepare_decoder_input_ids_from_labels(labels=labels)
    else:
        start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
    shifted = shifted.masked_fill(shifted == IGNORED, model.config.pad_token_id)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "decoder_input_ids": shifted}


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
