"""Predicts the peak of resident memory of each rank, from the shape of model and micro-batches alone; pure.

What is predicted is VmHWM of /proc/<pid>/status, file-backed pages included. What is kept for each token and each
attention score follows from the layers; the factors were fitted to runs of 11 M and 188 M parameters in fp32 and bf16
(docs/preflight.md has the table) and hold what the allocator keeps besides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT, HALF = 4, 2  # bytes; weights that learn, their gradients and the optimizer's state are fp32 in any case
RUNTIME = 380_000_000  # Python with torch, accelerate, and of transformers tokenizers and configurations
MODELLING = 20_000_000  # its models, which a new T5 and one with a head of its own are made by
CUDA_CONTEXT, CUDA_HOST = 600_000_000, 1_500_000_000  # of CUDA itself: on the GPU, and its libraries on the host

# On the CPU, where a T5 is packed, layers keep what their backward pass needs in the kind of the matrix products:
# for each token the norms' outputs (d_model), what enters and leaves attention (heads × d_kv) and the hidden layer …
CROSS_KEPT = 2  # of a prompt's token, keys and values of each decoder layer
TRANSIENT = 14  # floats of width d_model for each token, of the layer that is being computed
BLOCKS = 8_000_000  # logits in fp32, a few rows at a time
PREPACKED = 16 << 20  # bytes of a head that does not learn, up to which it is there once more, prepacked
KEPT_FREE = {HALF: 1.15, FLOAT: 1.6}  # what allocators hold besides, by bytes of a number, fitted to runs

# On a GPU all is padded, and autocast keeps most of it in fp32: floats kept for each token and layer, so many of
# width d_model and so many of width d_ff …
WIDE, WIDE_FF = 14.0, 2.2
GATED = 1.5  # times as many of d_ff where the feed-forward is gated
# … and for each attention score of the layers that learn; and of one layer of those that do not.
SCORES, SCORES_ONCE = 6.5, 6.0
LOGITS = 3.0  # chunks of logits held at once: themselves, their softmax, its gradient
TABLES = 3.0  # gradients of the embeddings on their way, where they learn: of the head, of both stacks
TEMPORARIES = 3.0  # copies of the largest parameter during its update
CACHE = 1.3  # of the key-value cache: it grows by being copied


@dataclass(frozen=True)
class T5Shape:
    """Of a T5; `parameters` and `trained` count each shared weight once."""

    vocabulary: int
    d_model: int
    d_kv: int
    d_ff: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    gated: bool
    tied: bool
    parameters: int
    trained: int
    encoder_frozen: bool
    decoder_frozen: bool
    embeddings_frozen: bool


@dataclass(frozen=True)
class PaddedBatch:
    """A padded micro-batch: rows, and the longest prompt and label of them in tokens."""

    rows: int
    prompt: int
    label: int


@dataclass(frozen=True)
class MemoryPlan:
    """What a run does with the model: `largest` are micro-batches that may need the most, `file` is in bytes."""

    optimizer: str
    loss_chunk_tokens: int
    largest: tuple[PaddedBatch, ...]
    generation: PaddedBatch
    model_file_bytes: int
    bf16: bool = False


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes by what they are for, and their sum; `phase` is when the peak is reached."""

    items: Mapping[str, int]
    phase: str

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.items.values())


def predict(shape: T5Shape, plan: MemoryPlan) -> MemoryPrediction:
    """The peak of one rank over loading, training and generating, where all is computed on the CPU."""
    kind = HALF if plan.bf16 else FLOAT
    learning, gradients = FLOAT * shape.trained, FLOAT * shape.trained
    weights = learning + kind * (shape.parameters - shape.trained)
    casts = kind * shape.trained if plan.bf16 else 0
    state = 2 * gradients if plan.optimizer == "adamw" else gradients // 256
    runtime = RUNTIME if shape.tied and plan.model_file_bytes else RUNTIME + MODELLING
    # A model's file is mapped until its weights are copied; a new model is in memory before it is written down.
    loading = {"runtime": runtime, "weights": weights, "file": plan.model_file_bytes or FLOAT * shape.parameters}
    temporaries = int(TEMPORARIES * FLOAT * largest_trained(shape))
    kept = max([packed(shape, plan, batch) for batch in plan.largest], default=0)
    held = {"runtime": runtime, "weights": weights + casts, "optimizer": state}
    head = kind * shape.vocabulary * shape.d_model
    prepacked = head if shape.embeddings_frozen and head <= PREPACKED else 0
    training = {**held, "gradients": gradients, "activations": max(kept, temporaries) + prepacked}
    # Beside what is held, what learns and the head are prepacked.
    weights += casts + kind * shape.trained + head
    generating = {**held, "weights": weights, "cache": cache(shape, plan.generation, kind)}
    return _largest({"training": training, "generating": generating, "loading": loading})


def _largest(phases: Mapping[str, Mapping[str, int]]) -> MemoryPrediction:
    phase = max(phases, key=lambda name: sum(phases[name].values()))
    return MemoryPrediction(phases[phase], phase)


def packed(shape: T5Shape, plan: MemoryPlan, batch: PaddedBatch) -> int:
    """Bytes that the forward pass of a packed micro-batch keeps for the backward pass, or needs at once without one."""
    kind = HALF if plan.bf16 else FLOAT
    inner, hidden = shape.heads * shape.d_kv, shape.d_ff * (3 if shape.gated else 1)
    asked, answered = batch.rows * batch.prompt, batch.rows * batch.label
    own, cross = batch.rows * shape.heads * batch.label**2, batch.rows * shape.heads * batch.label * batch.prompt
    decoder = answered * (kind * (3 * shape.d_model + 6 * inner + hidden))
    decoder += kind * (CROSS_KEPT * asked * inner + own + cross)
    encoder = asked * (kind * (2 * shape.d_model + 4 * inner + hidden))
    encoder += kind * batch.rows * shape.heads * batch.prompt**2
    learns = not (shape.encoder_frozen and shape.embeddings_frozen)
    whole = shape.decoder_layers * decoder + (shape.encoder_layers if learns else 1) * encoder
    whole += FLOAT * (TRANSIENT * (answered + asked) * shape.d_model + 4 * shape.heads * batch.label**2)
    whole += kind * min(plan.loss_chunk_tokens, answered) * shape.vocabulary + BLOCKS
    if not shape.embeddings_frozen:
        whole += int(TABLES * FLOAT * shape.vocabulary * shape.d_model)
    return int(KEPT_FREE[kind] * whole)


def predict_padded(shape: T5Shape, plan: MemoryPlan) -> MemoryPrediction:
    """The same where all is padded, under autocast."""
    weights, gradients = FLOAT * shape.parameters, FLOAT * shape.trained
    state = 2 * gradients if plan.optimizer == "adamw" else gradients // 256
    kept = max([activations(shape, plan, batch) for batch in plan.largest], default=0)
    training = {
        "weights": weights,
        "gradients": gradients,
        "optimizer": state,
        "activations": max(kept, int(TEMPORARIES * FLOAT * largest_trained(shape))),
    }
    generating = {"weights": weights, "optimizer": state, "cache": cache(shape, plan.generation, FLOAT)}
    return _largest({"training": training, "generating": generating})


def predict_on_gpu(shape: T5Shape, plan: MemoryPlan) -> tuple[MemoryPrediction, MemoryPrediction]:
    """The peak of one rank on its GPU, and in host memory, where all is computed on the GPU.

    Not fitted to runs: the counts of a padded T5, with CUDA's context and libraries besides.
    """
    device = predict_padded(shape, plan)
    host = {
        "runtime": RUNTIME + MODELLING + CUDA_HOST,
        "weights": FLOAT * shape.parameters,
        "file": plan.model_file_bytes,
    }
    return MemoryPrediction({"context": CUDA_CONTEXT, **device.items}, device.phase), MemoryPrediction(host, "loading")


def activations(shape: T5Shape, plan: MemoryPlan, batch: PaddedBatch) -> int:
    """Bytes that the forward pass of a padded micro-batch keeps for the backward pass, or needs at once without one."""
    wide = WIDE * shape.d_model + WIDE_FF * (GATED if shape.gated else 1) * shape.d_ff
    asked, answered = batch.rows * batch.prompt, batch.rows * batch.label
    own, cross = batch.rows * shape.heads * batch.label**2, batch.rows * shape.heads * batch.label * batch.prompt
    encoder_scores = batch.rows * shape.heads * batch.prompt**2
    # What learns in the encoder needs the gradient to come through the whole decoder, frozen or not.
    decoder_kept = shape.decoder_layers
    floats = decoder_kept * (answered * wide + SCORES * (own + cross))
    if shape.encoder_frozen and shape.embeddings_frozen:
        floats += asked * wide + SCORES_ONCE * encoder_scores
    else:
        floats += shape.encoder_layers * (asked * wide + SCORES * encoder_scores)
    if not shape.embeddings_frozen:
        floats += TABLES * shape.vocabulary * shape.d_model
    floats += LOGITS * min(plan.loss_chunk_tokens, answered) * shape.vocabulary
    return int(FLOAT * floats)


def largest_trained(shape: T5Shape) -> int:
    """Elements of the largest parameter that learns."""
    table = 0 if shape.embeddings_frozen else shape.vocabulary * shape.d_model
    return max(table, shape.d_model * max(shape.d_ff, shape.heads * shape.d_kv))


def cache(shape: T5Shape, batch: PaddedBatch, kind: int) -> int:
    """Bytes of the keys and values of a batch that is generated, with the logits of one token."""
    tokens = batch.rows * (batch.prompt + batch.label)
    keys = 2 * tokens * shape.decoder_layers * shape.heads * shape.d_kv
    return int(kind * (CACHE * keys + batch.rows * shape.vocabulary))
