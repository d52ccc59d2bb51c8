"""Predicts the peak of resident memory of each rank, from the shape of model and micro-batches alone; pure.

What is predicted is VmHWM of /proc/<pid>/status, file-backed pages included. The counts of floats kept for each label
token and each attention score follow T5's layers; the factors were fitted to runs of 11 M and 188 M parameters in fp32
and bf16 (docs/preflight.md has the table) and hold what the allocator keeps besides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT = 4  # bytes; weights, gradients and optimizer state are fp32 whatever the matrix products are in
RUNTIME = 515_000_000  # Python with torch, transformers, accelerate and pyarrow
LOADING = 450_000_000  # the same before the first step
CUDA_CONTEXT, CUDA_HOST = 600_000_000, 1_500_000_000  # of CUDA itself: on the GPU, and its libraries on the host
# Floats kept for the backward pass, for each token and layer: so many of width d_model and so many of width d_ff …
WIDE, WIDE_FF = 14.0, 2.2
GATED = 1.5  # times as many of d_ff where the feed-forward is gated
# … and for each attention score of the layers that learn; and of one layer of those that do not.
SCORES, SCORES_ONCE = 6.5, 6.0
LOGITS = 3.0  # chunks of logits held at once: themselves, their softmax, its gradient
TABLES = 3.0  # gradients of the embeddings on their way, where they learn: of the head, of both stacks
TEMPORARIES = 3.0  # copies of the largest parameter during its update
CACHE = 1.3  # of the key-value cache: it grows by being copied


@dataclass(frozen=True)
class Shape:
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
class Batch:
    """A padded micro-batch: rows, and the longest prompt and label of them in tokens."""

    rows: int
    prompt: int
    label: int


@dataclass(frozen=True)
class Plan:
    """What a run does with the model: `largest` are micro-batches that may need the most, `file` is in bytes."""

    optimizer: str
    loss_chunk_tokens: int
    largest: tuple[Batch, ...]
    generation: Batch
    model_file_bytes: int


@dataclass(frozen=True)
class Prediction:
    """Bytes by what they are for, and their sum; `phase` is when the peak is reached."""

    items: Mapping[str, int]
    phase: str

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.items.values())


def predict(shape: Shape, plan: Plan) -> Prediction:
    """The peak of one rank over loading, training and generating."""
    weights, gradients = FLOAT * shape.parameters, FLOAT * shape.trained
    state = 2 * gradients if plan.optimizer == "adamw" else gradients // 256
    loading = {"runtime": LOADING, "weights": weights, "file": plan.model_file_bytes}
    training = {
        "runtime": RUNTIME,
        "weights": weights,
        "gradients": gradients,
        "optimizer": state,
        "activations": max([activations(shape, plan, batch) for batch in plan.largest], default=0),
    }
    temporaries = int(TEMPORARIES * FLOAT * largest_trained(shape))
    training["activations"] = max(training["activations"], temporaries)
    generating = {"runtime": RUNTIME, "weights": weights, "optimizer": state, "cache": cache(shape, plan.generation)}
    phases = {"training": training, "generating": generating, "loading": loading}
    phase = max(phases, key=lambda name: sum(phases[name].values()))
    return Prediction(phases[phase], phase)


def predict_on_gpu(shape: Shape, plan: Plan) -> tuple[Prediction, Prediction]:
    """The peak of one rank on its GPU, and in host memory, where all is computed on the GPU.

    Not fitted to runs: the counts of `predict`, with CUDA's context and libraries besides.
    """
    whole = predict(shape, plan)
    items = {name: size for name, size in whole.items.items() if name not in ("runtime", "file")}
    weights = FLOAT * shape.parameters
    host = {"runtime": LOADING + CUDA_HOST, "weights": weights, "file": plan.model_file_bytes}
    return Prediction({"context": CUDA_CONTEXT, **items}, whole.phase), Prediction(host, "loading")


def activations(shape: Shape, plan: Plan, batch: Batch) -> int:
    """Bytes that the forward pass of a micro-batch keeps for the backward pass, or needs at once without one."""
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


def largest_trained(shape: Shape) -> int:
    """Elements of the largest parameter that learns."""
    table = 0 if shape.embeddings_frozen else shape.vocabulary * shape.d_model
    return max(table, shape.d_model * max(shape.d_ff, shape.heads * shape.d_kv))


def cache(shape: Shape, batch: Batch) -> int:
    """Bytes of the keys and values of a batch that is generated, with the logits of one token."""
    tokens = batch.rows * (batch.prompt + batch.label)
    keys = 2 * tokens * shape.decoder_layers * shape.heads * shape.d_kv
    return int(FLOAT * (CACHE * keys + batch.rows * shape.vocabulary))
