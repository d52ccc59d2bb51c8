"""Predicts the peak resident memory of each rank that trains a causal model, from its shape and micro-batches; pure.

The predicted value is VmHWM of /proc/<pid>/status, including file-backed pages. What a layer keeps per token follows
from `layers.py` for models of Llama's kind, and for others from transformers' layers as torch's autograd computes them;
`KEPT_FREE` was fitted to runs (see the table in docs/preflight.md), and includes what the allocator keeps in addition.
"""

from dataclasses import dataclass, replace
from typing import Self

from engine.contract.config import RunConfig, names_in
from engine.contract.facts import Batch, DecoderFacts, ModelFacts, Sizes
from engine.contract.memory import MemoryFacts, MemoryPrediction
from engine.models.counting import FLOAT, is_within
from engine.models.memory import COMPILER, MASK_TRANSIENT, MODELLING, RUNTIME, MemoryPlan

HALF = 2  # bytes
STACKED = ("llama", "mistral", "qwen2", "qwen3")  # those that `llama.py` computes
NORMED_HEADS = ("qwen3",)
KEPT_FREE = {HALF: 1.15, FLOAT: 1.15}  # what allocators hold in addition, by bytes per number, fitted to runs
LOGITS = 3  # fp32 chunks of logits held at once: themselves, their softmax or gradient, and one in progress
LARGE = 512  # tokens of a micro-batch from which frozen weights are prepacked for the backward pass too
TABLES = 2  # gradients of trained embeddings that autograd holds at once: of the head and of the embeddings
TRANSIENT = 3  # of the widths of a layer, in fp32, for the one being computed
CACHED = 1 << 27  # numbers in the caches of the rows that reply together, at their longest
CACHE = 1.3  # of the key-value cache, which grows by copying
CUDA_CONTEXT, CUDA_HOST = 600_000_000, 1_500_000_000  # of CUDA itself on the GPU, and of its libraries on the host


@dataclass(frozen=True)
class CausalShape:
    """The shape of a causal model, and what of it learns."""

    vocabulary: int
    decoder: DecoderFacts
    sizes: Sizes
    adapted: bool  # adapters learn, and nothing else does
    embeddings_learn: bool
    stacked: bool  # by layers of our own, whose frozen weights are prepacked
    normed_heads: bool

    @classmethod
    def of(cls, facts: ModelFacts, decoder: DecoderFacts, config: RunConfig) -> Self:
        """The shape of the model that `facts` describe."""
        adapted, frozen = bool(config.lora_rank), names_in(config.freeze)
        learns = not adapted and not any(is_within("embeddings", name) for name in frozen)
        stacked = facts.family in STACKED
        return cls(facts.rows, decoder, facts.sizes, adapted, learns, stacked, facts.family in NORMED_HEADS)

    @property
    def frozen(self) -> int:
        """Parameters of the model that do not learn."""
        return self.sizes.parameters - (0 if self.adapted else self.sizes.trained)

    @property
    def prepacked(self) -> int:
        """Elements of the weights of which further copies are held in bf16."""
        return max(0, self.frozen - self.table) if self.stacked else 0

    @property
    def cast(self) -> int:
        """Elements of weights that learn of which copies are held in bf16; ours are cast for one product each."""
        if self.stacked and not self.adapted:
            return self.table if self.embeddings_learn else 0
        return self.sizes.trained

    @property
    def table(self) -> int:
        """Elements of the embeddings."""
        return self.vocabulary * self.decoder.width


def predicted(facts: ModelFacts, config: RunConfig, plan: MemoryPlan) -> MemoryFacts:
    """The peaks of a run with the causal model that `facts` describe; unknown without its shape."""
    if facts.decoder is None:
        return MemoryFacts()
    shape = CausalShape.of(facts, facts.decoder, config)
    if plan.shards > 1:
        return predict_divided(replace(shape, stacked=False), plan)
    if plan.on_gpu:
        return MemoryFacts(*predict_on_gpu(shape, plan))
    return MemoryFacts(predict(shape, plan))


def predict(shape: CausalShape, plan: MemoryPlan) -> MemoryPrediction:
    """The peak of one rank over loading, training and generating, if everything is computed on the CPU."""
    kind = HALF if plan.bf16 else FLOAT
    runtime, weights = RUNTIME + MODELLING, FLOAT * shape.sizes.trained + kind * shape.frozen
    copies = 2 if max([batch.tokens for batch in plan.packed], default=0) >= LARGE else 1
    casts = kind * (shape.cast + copies * shape.prepacked) if plan.bf16 else 0
    held = {"runtime": runtime, "weights": weights, "optimizer": shape.sizes.optimizer_bytes}
    kept = max([activations(shape, plan, batch) for batch in plan.packed], default=0)
    training = {
        **held,
        "weights": weights + casts,
        "gradients": FLOAT * shape.sizes.trained,
        "activations": kept,
    }
    generating = {**held, "weights": weights + casts, "cache": cache(shape, plan.generation, kind)}
    loading = {"runtime": runtime, "weights": weights, "file": plan.model_file_bytes}
    return MemoryPrediction.largest({"training": training, "generating": generating, "loading": loading})


def predict_on_gpu(shape: CausalShape, plan: MemoryPlan) -> tuple[MemoryPrediction, MemoryPrediction]:
    """The peak of one rank in host memory and on its GPU, if everything is computed on the GPU.

    Not fitted to runs: the counts of transformers' layers for padded rows and their masks, plus CUDA's context and
    libraries. Rows end to end, which a trial on the GPU decides on, need less.
    """
    shape, kind = replace(shape, stacked=False), HALF if plan.bf16 else FLOAT
    batches = [padded(batch) for batch in plan.padded]
    kept = max([activations(shape, plan, batch) + masks(shape, kind, batch) for batch in batches], default=0)
    weights = (FLOAT + (kind if plan.bf16 else 0)) * shape.sizes.trained + kind * shape.frozen
    training = {"weights": weights, "gradients": FLOAT * shape.sizes.trained, "activations": kept}
    generating = {"weights": weights, "cache": cache(shape, plan.generation, kind)}
    device = MemoryPrediction.largest({"training": training, "generating": generating})
    items = {"context": CUDA_CONTEXT, "optimizer": shape.sizes.optimizer_bytes, **device.items}
    whole = FLOAT * (shape.sizes.trained + shape.frozen)
    host = {"runtime": RUNTIME + MODELLING + CUDA_HOST, "weights": whole, "file": plan.model_file_bytes}
    return MemoryPrediction(host, "loading"), MemoryPrediction(items, device.phase)


def predict_divided(shape: CausalShape, plan: MemoryPlan) -> MemoryFacts:
    """The peaks of one of the ranks that a model is divided among.

    Its share, what is put together at once (the embeddings, the head, and two layers), and a layer's
    gradients before they are summed. Fitted to runs on the CPU, where freed blocks go back at once; not to any on GPUs.
    """
    kind = HALF if plan.bf16 else FLOAT
    outside = shape.table * (1 if shape.decoder.tied else 2)
    layer = max(0, shape.sizes.parameters - outside) // max(1, shape.decoder.layers)
    learning = shape.sizes.trained // max(1, shape.decoder.layers) if shape.adapted else layer
    mine = (FLOAT * shape.sizes.trained + kind * shape.frozen) // plan.shards
    weights = mine + FLOAT * outside + 2 * kind * layer
    batches = [padded(batch) for batch in plan.padded]
    kept = max([activations(shape, plan, batch) + masks(shape, kind, batch) for batch in batches], default=0)
    gradients = FLOAT * (shape.sizes.trained // plan.shards + learning)
    optimizer = shape.sizes.optimizer_bytes // plan.shards
    runtime, file = RUNTIME + MODELLING + COMPILER, plan.model_file_bytes // plan.shards  # whose pages all ranks share
    training = {"weights": weights, "gradients": gradients, "activations": kept, "optimizer": optimizer}
    generating = {"weights": weights, "cache": cache(shape, plan.generation, kind), "optimizer": optimizer}
    if not plan.on_gpu:
        phases = {"training": training, "generating": generating, "loading": {"weights": mine, "file": file}}
        ours = {name: {"runtime": runtime, **items} for name, items in phases.items()}
        return MemoryFacts(MemoryPrediction.largest(ours))
    peak = MemoryPrediction.largest({"training": training, "generating": generating})
    host = {"runtime": runtime + CUDA_HOST, "weights": FLOAT * (outside + layer), "file": file}
    device = MemoryPrediction({"context": CUDA_CONTEXT, **peak.items}, peak.phase)
    return MemoryFacts(MemoryPrediction(host, "loading"), device)


def padded(batch: Batch) -> Batch:
    """A batch whose rows are all as long as the longest can be."""
    return Batch(batch.rows, batch.prompt, batch.label, batch.rows * (batch.prompt + batch.label))


def masks(shape: CausalShape, kind: int, batch: Batch) -> int:
    """Bytes for attention to padded rows on a GPU: a mask that all heads share, and keys and values repeated for them.

    With a mask, heads that share keys and values get copies of these. If no row is padded, there is neither.
    """
    decoder = shape.decoder
    scores = batch.rows * (batch.prompt + batch.label) ** 2
    repeated = 2 * batch.tokens * (decoder.heads - decoder.kv_heads) * decoder.head_width
    return scores * (1 + kind * decoder.layers + FLOAT * MASK_TRANSIENT) + kind * decoder.layers * repeated


def activations(shape: CausalShape, plan: MemoryPlan, batch: Batch) -> int:
    """Bytes that a micro-batch's forward pass keeps for the backward pass, and those of its loss.

    With what allocators hold in addition, but for a divided model on a CPU, where freed blocks go back at once.
    """
    kind = HALF if plan.bf16 else FLOAT
    held = KEPT_FREE[kind] if plan.on_gpu or plan.shards == 1 else 1.0
    whole = batch.tokens * shape.decoder.layers * kept_by_layer(shape, kind)
    whole += TRANSIENT * FLOAT * batch.tokens * (shape.decoder.width + shape.decoder.hidden_width)
    learned = min(plan.loss_chunk_tokens, batch.rows * batch.label, batch.tokens)
    whole += LOGITS * FLOAT * learned * shape.vocabulary
    if shape.embeddings_learn:
        whole += (1 if shape.stacked else TABLES) * FLOAT * shape.table
    return int(held * whole)


def kept_by_layer(shape: CausalShape, kind: int) -> int:
    """Bytes that a layer keeps of a token.

    Ours keeps both normed inputs, queries, keys and values, what was attended to, and both halves of the feed-forward.
    transformers' keeps the inputs of both norms in fp32 as well, queries and what was attended to once more, the
    activation, and its product with the other half.
    """
    decoder = shape.decoder
    attended, grouped = decoder.heads * decoder.head_width, decoder.kv_heads * decoder.head_width
    kept = kind * (2 * decoder.width + 2 * attended + 2 * grouped + 2 * decoder.hidden_width) + FLOAT * decoder.heads
    if shape.stacked:
        return kept + (kind * (attended + grouped) if shape.normed_heads else 0)
    return kept + FLOAT * 2 * decoder.width + kind * (attended + 2 * decoder.hidden_width)


def cache(shape: CausalShape, batch: Batch, kind: int) -> int:
    """Bytes of the keys and values of a generated batch, plus the logits of one token."""
    tokens = batch.rows * (batch.prompt + batch.label)
    of_token = 2 * shape.decoder.layers * shape.decoder.kv_heads * shape.decoder.head_width
    keys = min(tokens * of_token, max(CACHED, tokens // batch.rows * of_token))
    return int(kind * CACHE * keys + FLOAT * batch.rows * shape.vocabulary)
