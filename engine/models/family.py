"""What a family of models is: how they are recognized, described, loaded and computed.

A family is a class in a folder of its own and a line in `registry.py`. It derives from `Family`, and may leave any
method that has a body as it is. The check of a run calls the methods of the first group in a process without torch, so
a module that imports torch is imported inside the methods that need it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.memory import MemoryFacts
from engine.contract.messages import Message
from engine.data.batching import Measure
from engine.data.chat.settings import RowKind
from engine.models.counting import counted
from engine.models.memory import MemoryPlan
from engine.models.model_folder import ModelFolder, Settings, plain
from engine.models.special_tokens import special_tokens
from engine.models.weightfile import Tensors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from engine.models.freezing import Parts
    from engine.models.loss import Head
    from engine.models.network import Agreement, Network

Notify = Callable[[Message], None]


class Family(Protocol):
    """A family of models."""

    name: str  # as the setting `family` names it
    rows: RowKind = "pairs"  # what its models make of the rows of a data file
    measure: Measure = Measure.PARTS  # what counts as the tokens of a micro-batch, where it is computed as usual
    needed: tuple[str, ...] = ()  # those of "decoder_start", "pad" and "eos" that its models cannot do without
    tokens: tuple[str, ...] = ("pad", "eos")  # what a tokenizer must have for its rows

    # --- without torch

    def described_by_torch(self, settings: Settings) -> bool:  # noqa: ARG002
        """Whether describing a model with this config.json takes torch."""
        return False

    def fits(self, settings: Settings) -> bool:
        """Whether a config.json names a model of this family."""
        ...

    def require(self, folder: ModelFolder) -> None:  # noqa: ARG002
        """Raises InputError if weights are this family's and the config.json is not, or the other way round."""
        return

    def wrapper(self, folder: ModelFolder) -> str:  # noqa: ARG002
        """What a program that wrapped the model (`module.`, …) put before the names of all its weights."""
        return ""

    def part_of(self, name: str) -> str:
        """The part of the model, as `--freeze` names it, that a tensor belongs to."""
        return name.partition(".")[0]

    def is_linear(self, name: str) -> bool:
        """Whether a matrix of this name is that of a linear layer that may have an adapter."""
        return name.endswith(".weight") and self.part_of(name) not in ("embeddings", "head")

    def describe(self, folder: ModelFolder, config: RunConfig) -> ModelFacts:
        """The facts about a model; raises InputError if it is not complete."""
        settings = folder.settings
        return ModelFacts(
            name=str(folder.path),
            family=str(settings["model_type"]),
            rows=int(settings["vocab_size"]),
            sizes=counted(folder.tensors, self.part_of, self.is_linear, config),
            weights_bytes=folder.size,
            special=special_tokens(settings.get, self.needed),
            settings=plain(settings),
        )

    def memory(self, facts: ModelFacts, config: RunConfig, plan: MemoryPlan) -> MemoryFacts:  # noqa: ARG002
        """The peaks of memory of a run with the model that `facts` describe."""
        return MemoryFacts()

    # --- with torch

    def load(self, folder: ModelFolder, wrapper: str, *, packed: bool) -> Any:
        """The model in a folder, fp32, which may still be mapped from its files; raises InputError.

        `packed`: it is for a packed network, and may come without a forward pass of its own.
        """
        ...

    def build(self, settings: dict[str, Any], state: "dict[str, Tensor]", path: Path, *, packed: bool) -> Any:
        """The model that a checkpoint at `path` describes, with the weights `state`; raises InputError."""
        ...

    def parts(self, model: Any) -> "Parts":
        """The parameters that `--freeze` means by the name of a part."""
        found: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            found.setdefault(self.part_of(name), []).append(parameter)
        return found

    def positions(self, model: Any) -> dict[str, int]:  # noqa: ARG002
        """The most tokens that a prompt and a label may have, where they are limited."""
        return {}

    def head_inputs(self, ids: "Tensor") -> "dict[str, Tensor]":
        """The arguments of the model's forward pass for a few tokens, (1, tokens), by which its head is found."""
        return {"input_ids": ids}

    def network(
        self, model: Any, head: "Head | None", chunk: int, *, bf16: bool, agreement: "Agreement | None" = None
    ) -> "Network":
        """How the model is computed on the device that it is on; `chunk` is `loss_chunk_tokens`.

        `agreement` is needed by families whose rows a GPU can lay in several ways.
        """
        ...

    def held_in_bf16(self, model: Any) -> "Sequence[Tensor]":  # noqa: ARG002
        """The frozen weights that a network over padded rows holds in bf16 alone, if it computes in bf16."""
        return []

    def sharded(self, *_given: Any, **_more: Any) -> "Network":
        """How a model is computed that is divided among all ranks, if the family can be: see `require_shardable`."""
        raise TypeError(f"models of the family {self.name} cannot be divided")


class FamilyBySettings(Family, Protocol):
    """The family whose shape the settings of a run describe: of new models, and of files of weights alone."""

    new_name: str  # what people call a new model

    def describe_new(self, config: RunConfig) -> ModelFacts:
        """The facts about a new model, without what depends on the number of tokens; raises InputError."""
        ...

    def describe_file(self, path: Path, tensors: Tensors, config: RunConfig) -> ModelFacts:
        """The facts about a model of which there is only a file of weights; raises InputError."""
        ...

    def new(self, config: RunConfig, tokenizer: "PreTrainedTokenizerBase") -> Any:
        """A new model with random weights."""
        ...

    def of_file(
        self,
        path: Path,
        state: "Mapping[str, Tensor]",
        config: RunConfig,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        packed: bool,
        notify: Notify,
    ) -> Any:
        """The model with the weights `state` of a file; raises InputError.

        `notify` is called with notices about what had to be assumed.
        """
        ...
