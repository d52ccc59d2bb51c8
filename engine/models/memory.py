"""What a run does with a model, as far as its memory depends on it; each family predicts the peaks from it."""

from dataclasses import dataclass

from engine.contract.facts import Batch

# Bytes of Python with torch, accelerate, and transformers' tokenizers and configurations. Pages of libraries are up to
# 230 MB of it, depending on the machine: 380 MB in all were measured on one, 430 on another.
RUNTIME = 420_000_000
MODELLING = 20_000_000  # of transformers' models
COMPILER = 70_000_000  # of torch's compiler, which some of these load, and torch's FSDP2
# On a GPU, attention is torch's `scaled_dot_product_attention`, whose fused kernels keep no scores. What they add to
# scores, a mask or a bias by position, is kept by each layer; the one being computed has it in fp32 with its gradient.
MASK_TRANSIENT = 3  # numbers in fp32 for each of a mask or bias


@dataclass(frozen=True)
class MemoryPlan:
    """What a run does; `padded` and `packed` are the micro-batches that may need the most, file sizes are in bytes."""

    loss_chunk_tokens: int
    padded: tuple[Batch, ...]
    packed: tuple[Batch, ...]
    generation: Batch
    model_file_bytes: int
    bf16: bool = False
    on_gpu: bool = False
    shards: int = 1  # among how many ranks the model is divided
