"""T5 and mT5: described without torch, packed on the CPU; elsewhere as any other sequence-to-sequence model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.inputs import T5_FAMILIES
from engine.contract.memory import MemoryFacts
from engine.models.family import Family, FamilyBySettings, Notify
from engine.models.memory import MemoryPlan
from engine.models.model_folder import ModelFolder, Settings
from engine.models.seq2seq.family import Seq2Seq
from engine.models.special_tokens import special_tokens
from engine.models.structure import require_encoder_decoder
from engine.models.t5 import described, memory, shape
from engine.models.weightfile import Tensors, wrapper_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from engine.models.freezing import Parts
    from engine.models.loss import Head
    from engine.models.network import Network


class T5(Seq2Seq, FamilyBySettings):
    """T5 and mT5, of version 1.0 and 1.1."""

    name = "t5"
    new_name = described.NEW

    def fits(self, settings: Settings) -> bool:
        """Whether a config.json names a T5."""
        return settings.get("model_type") in shape.MODEL_TYPES

    def require(self, folder: ModelFolder) -> None:
        """Raises InputError if weights are those of a T5 and the config.json is not, or the other way round."""
        described.require_by_names(folder, T5_FAMILIES)
        if self.fits(folder.settings):
            require_encoder_decoder(folder.path, folder.settings, folder.tensors)
            described.require_names(folder)

    def wrapper(self, folder: ModelFolder) -> str:
        """The prefix before the names that every T5 has."""
        return wrapper_of(folder.tensors, shape.NAMES)

    def described_by_torch(self, settings: Settings) -> bool:  # noqa: ARG002
        """No: its tensors are known."""
        return False

    def part_of(self, name: str) -> str:
        """Encoder, decoder, or the embeddings that both share."""
        return shape.part_of(name)

    def describe(self, folder: ModelFolder, config: RunConfig) -> ModelFacts:
        """The facts, by names and shapes alone."""
        special = special_tokens({**described.DEFAULTS, **folder.settings}.get, self.needed)
        return described.of_folder(folder, self.wrapper(folder), special, config)

    def describe_file(self, path: Path, tensors: Tensors, config: RunConfig) -> ModelFacts:
        """The same for a file of weights."""
        return described.of_file(path, tensors, config)

    def describe_new(self, config: RunConfig) -> ModelFacts:
        """The same for a new model."""
        return described.of_new(config)

    def memory(self, facts: ModelFacts, config: RunConfig, plan: MemoryPlan) -> MemoryFacts:
        """The peaks, packed on the CPU or padded on a GPU."""
        return memory.predicted(facts, config, plan)

    def load(self, folder: ModelFolder, wrapper: str, *, packed: bool) -> Any:
        """Its modules alone if they can be packed, else transformers' model."""
        from engine.models.t5 import loading

        modules = loading.modules_of_folder(folder.path, wrapper) if packed else None
        return modules or super().load(folder, wrapper, packed=packed)

    def build(self, settings: dict[str, Any], state: "dict[str, Tensor]", path: Path, *, packed: bool) -> Any:
        """The same."""
        from engine.models.t5 import loading

        modules = loading.modules_of_checkpoint(settings, state, path) if packed else None
        return modules or super().build(settings, state, path, packed=packed)

    def new(self, config: RunConfig, tokenizer: "PreTrainedTokenizerBase") -> Any:
        """A new T5 whose head is its embeddings."""
        from engine.models.t5 import loading

        return loading.new(config, tokenizer)

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
        """The T5 of a file of weights."""
        from engine.models.t5 import loading

        return loading.of_file(path, state, config, tokenizer, packed=packed, notify=notify)

    def parts(self, model: Any) -> "Parts":
        """The same of a loaded model."""
        return Family.parts(self, model)

    def positions(self, model: Any) -> dict[str, int]:  # noqa: ARG002
        """No limits: positions are relative."""
        return {}

    def network(self, model: Any, head: "Head | None", chunk: int, *, bf16: bool, **_more: Any) -> "Network":
        """Packed if that is possible, else padded."""
        from engine.models.t5.packed import packed_network

        return packed_network(model, head, chunk, bf16=bf16) or super().network(model, head, chunk, bf16=bf16)
