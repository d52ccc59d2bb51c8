"""Predicts the peak resident memory of each rank from the shapes of model and micro-batches alone; pure.

The predicted value is VmHWM of /proc/<pid>/status, including file-backed pages. The memory kept per token and per
attention score follows from the layers; the factors were fitted to runs of 11 M and 188 M parameters in fp32 and bf16
(see the table in docs/preflight.md) and include what the allocator keeps in addition.
"""

from dataclasses import dataclass, replace
from typing import Self

from engine.contract.config import RunConfig, names_in
from engine.contract.facts import Batch, ModelFacts, Sizes
from engine.contract.memory import MemoryFacts, MemoryPrediction
from engine.models.counting import FLOAT
from engine.models.memory import COMPILER, MASK_TRANSIENT, MODELLING, RUNTIME, MemoryPlan
from engine.models.t5.shape import gated, layers, tied

HALF = 2  # bytes
CUDA_CONTEXT, CUDA_HOST = 600_000_000, 1_500_000_000  # of CUDA itself on the GPU, and of its libraries on the host

# On the CPU, where a T5 is packed, layers keep what their backward pass needs in the dtype of the matrix products:
# per token the norms' outputs (d_model), the inputs and outputs of attention (heads × d_kv) and the hidden layer …
CROSS_KEPT = 2  # per prompt token, keys and values of each decoder layer
TRANSIENT = 14  # floats of width d_model per token, for the layer being computed
BLOCKS = 8_000_000  # logits in fp32, a few rows at a time
PREPACKED = 16 << 20  # bytes of a head that does not learn, up to which a prepacked copy of it is kept too
KEPT_FREE = {HALF: 1.15, FLOAT: 1.6}  # what allocators hold in addition, by bytes per number, fitted to runs

# On a GPU everything is padded, and autocast keeps most of it in fp32: floats kept per token and layer, in multiples
# of d_model and of d_ff …
WIDE, WIDE_FF = 14.0, 2.2
GATED = 1.5  # factor for d_ff if the feed-forward is gated
# … and, if torch computes attention by its plain kernel, per score of the layers that learn, and of one that does not.
SCORES, SCORES_ONCE = 6.5, 6.0
LOGITS = 3.0  # chunks of logits held at once: themselves, their softmax, its gradient
TABLES = 3.0  # gradients of trained embeddings in progress: of the head and of both stacks
TEMPORARIES = 3.0  # copies of the largest parameter during its update
CACHE = 1.3  # of the key-value cache, which grows by copying


@dataclass(frozen=True)
class T5Shape:
    """The shape of a T5, and what of it learns."""

    vocabulary: int
    d_model: int
    d_kv: int
    d_ff: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    gated: bool
    tied: bool
    sizes: Sizes
    encoder_frozen: bool
    embeddings_frozen: bool
    adapted: bool = False  # adapters learn, and nothing else does

    @property
    def frozen(self) -> int:
        """Parameters of the model that do not learn."""
        return self.sizes.parameters - (0 if self.adapted else self.sizes.trained)

    @classmethod
    def of(cls, facts: ModelFacts, config: RunConfig) -> Self:
        """The shape of the T5 that `facts` describe."""
        settings, frozen = facts.settings, names_in(config.freeze)
        return cls(
            vocabulary=facts.rows,
            d_model=int(settings["d_model"]),
            d_kv=int(settings["d_kv"]),
            d_ff=int(settings["d_ff"]),
            heads=int(settings["num_heads"]),
            encoder_layers=layers(settings, "encoder"),
            decoder_layers=layers(settings, "decoder"),
            gated=gated(settings),
            tied=tied(settings),
            sizes=facts.sizes,
            encoder_frozen="encoder" in frozen,
            embeddings_frozen=bool(config.lora_rank) or "embeddings" in frozen,
            adapted=bool(config.lora_rank),
        )


def predicted(facts: ModelFacts, config: RunConfig, plan: MemoryPlan) -> MemoryFacts:
    """The peaks of a run with the T5 that `facts` describe, the rows of its embeddings included."""
    shape = T5Shape.of(facts, config)
    if plan.on_gpu:
        device, host = predict_on_gpu(shape, plan)
        return MemoryFacts(host, device)
    return MemoryFacts(predict(shape, plan))


def predict(shape: T5Shape, plan: MemoryPlan) -> MemoryPrediction:
    """The peak of one rank over loading, training and generating, if everything is computed on the CPU."""
    kind = HALF if plan.bf16 else FLOAT
    learning, gradients = FLOAT * shape.sizes.trained, FLOAT * shape.sizes.trained
    weights = learning + kind * shape.frozen
    casts = kind * shape.sizes.trained if plan.bf16 else 0
    runtime = RUNTIME if shape.tied and plan.model_file_bytes else RUNTIME + MODELLING + COMPILER
    # A model's file is mapped until its weights are copied; a new model is in memory before it is written down.
    loading = {"runtime": runtime, "weights": weights, "file": plan.model_file_bytes or FLOAT * shape.sizes.parameters}
    temporaries = int(TEMPORARIES * FLOAT * largest_trained(shape))
    kept = max([packed(shape, plan, batch) for batch in plan.packed], default=0)
    held = {"runtime": runtime, "weights": weights + casts, "optimizer": shape.sizes.optimizer_bytes}
    head = kind * shape.vocabulary * shape.d_model
    prepacked = head if shape.embeddings_frozen and head <= PREPACKED else 0
    training = {**held, "gradients": gradients, "activations": max(kept, temporaries) + prepacked}
    # For generating, trained weights and the head also have prepacked copies.
    weights += casts + kind * (shape.sizes.parameters if shape.adapted else shape.sizes.trained) + head
    generating = {**held, "weights": weights, "cache": cache(shape, plan.generation, kind)}
    return MemoryPrediction.largest({"training": training, "generating": generating, "loading": loading})


def packed(shape: T5Shape, plan: MemoryPlan, batch: Batch) -> int:
    """Bytes that a packed micro-batch's forward pass keeps for the backward pass, or needs at one time without one."""
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
    """The same if everything is padded, under autocast, which casts what learns; frozen linear layers are held cast."""
    kind, gradients, state = HALF if plan.bf16 else FLOAT, FLOAT * shape.sizes.trained, shape.sizes.optimizer_bytes
    table = min(shape.frozen, shape.vocabulary * shape.d_model)
    weights = (FLOAT + (kind if plan.bf16 else 0)) * shape.sizes.trained + FLOAT * table + kind * (shape.frozen - table)
    kept = max([activations(shape, plan, batch) for batch in plan.padded], default=0)
    unsure = max([activations(shape, plan, batch, fused=False) for batch in plan.padded], default=0) - kept
    training = {
        "weights": weights,
        "gradients": gradients,
        "optimizer": state,
        "activations": max(kept, int(TEMPORARIES * FLOAT * largest_trained(shape))),
    }
    generating = {
        "weights": weights,
        "optimizer": state,
        "cache": cache(shape, plan.generation, FLOAT),
    }
    found = MemoryPrediction.largest({"training": training, "generating": generating})
    return replace(found, unsure=unsure) if found.phase == "training" else found


def predict_on_gpu(shape: T5Shape, plan: MemoryPlan) -> tuple[MemoryPrediction, MemoryPrediction]:
    """The peak of one rank on its GPU and in host memory, if everything is computed on the GPU.

    Not fitted to runs: the counts of a padded T5, plus CUDA's context and libraries.
    """
    device = predict_padded(shape, plan)
    host = {
        "runtime": RUNTIME + MODELLING + COMPILER + CUDA_HOST,
        "weights": FLOAT * shape.sizes.parameters,
        "file": plan.model_file_bytes,
    }
    return replace(device, items={"context": CUDA_CONTEXT, **device.items}), MemoryPrediction(host, "loading")


def activations(shape: T5Shape, plan: MemoryPlan, batch: Batch, *, fused: bool = True) -> int:
    """Bytes that a padded micro-batch's forward pass keeps for the backward pass, or needs at one time without one.

    Attention is `fused`, which keeps a bias for each score, or plain, which keeps the scores with dropout and softmax.
    """
    wide = WIDE * shape.d_model + WIDE_FF * (GATED if shape.gated else 1) * shape.d_ff
    asked, answered = batch.rows * batch.prompt, batch.rows * batch.label
    own, cross = batch.rows * shape.heads * batch.label**2, batch.rows * shape.heads * batch.label * batch.prompt
    encoder_scores = batch.rows * shape.heads * batch.prompt**2
    # Trained weights in the encoder need the gradient through the whole decoder, frozen or not.
    learns = not (shape.encoder_frozen and shape.embeddings_frozen)
    floats = shape.decoder_layers * answered * wide + (shape.encoder_layers if learns else 1) * asked * wide
    if fused:
        of_score = (HALF if plan.bf16 else FLOAT) / FLOAT
        layers_learning = shape.encoder_layers if learns else 0
        floats += of_score * (shape.decoder_layers * (own + cross) + layers_learning * encoder_scores)
        floats += MASK_TRANSIENT * max(own, cross, encoder_scores)
    else:
        floats += shape.decoder_layers * SCORES * (own + cross)
        floats += (shape.encoder_layers * SCORES if learns else SCORES_ONCE) * encoder_scores
    if not shape.embeddings_frozen:
        floats += TABLES * shape.vocabulary * shape.d_model
    floats += LOGITS * min(plan.loss_chunk_tokens, answered) * shape.vocabulary
    return int(FLOAT * floats)


def largest_trained(shape: T5Shape) -> int:
    """Elements of the largest trained parameter."""
    if shape.adapted:
        return 0
    table = 0 if shape.embeddings_frozen else shape.vocabulary * shape.d_model
    return max(table, shape.d_model * max(shape.d_ff, shape.heads * shape.d_kv))


def cache(shape: T5Shape, batch: Batch, kind: int) -> int:
    """Bytes of the keys and values of a generated batch, plus the logits of one token."""
    tokens = batch.rows * (batch.prompt + batch.label)
    keys = 2 * tokens * shape.decoder_layers * shape.heads * shape.d_kv
    return int(kind * (CACHE * keys + batch.rows * shape.vocabulary))
