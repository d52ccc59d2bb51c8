"""Which parts of a model learn, and which are frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from engine.contract.config import names_in
from engine.contract.messages import InputError, Message
from engine.models.counting import chosen, is_within

Parts = Mapping[str, list[nn.Parameter]]  # by the names that `freeze` gives them


@dataclass(frozen=True)
class Frozen:
    """What `freeze` did: parameter counts, and what to report to the user."""

    parameters: int
    trained: int
    notices: tuple[Message, ...]


def freeze(model: Any, names: str, parts: Parts) -> Frozen:
    """Freezes the parts of `model` that `names` lists with commas; raises InputError for an unknown part."""
    for parameter in parameters_of(model, names, parts):
        parameter.requires_grad_(False)
    everything = list(model.parameters())
    total = sum(p.numel() for p in everything)
    trained = sum(p.numel() for p in everything if p.requires_grad)
    if not trained:
        raise InputError("nothing_trainable", freeze=names)
    counts = {"trained": f"{trained:,}", "total": f"{total:,}"}
    frozen = ", ".join(names_in(names))
    notices = [
        Message.of("trainable", **counts, frozen=frozen) if frozen else Message.of("trainable_unfrozen", **counts)
    ]
    head = model.get_output_embeddings()
    if head is not None and not head.weight.requires_grad and head.weight is model.get_input_embeddings().weight:
        notices.append(Message("head_frozen"))
    return Frozen(total, trained, tuple(notices))


def parameters_of(model: Any, names: str, parts: Parts) -> list[nn.Parameter]:
    """The parameters of the parts that `names` lists with commas; raises InputError for an unknown part.

    `parts` are those that its family names, alone or by what they have in common (`layers`); any other name stands for
    the parameters whose names begin with it, up to a dot.
    """

    def find(name: str) -> list[nn.Parameter]:
        named = [parameter for part, found in parts.items() if is_within(part, name) for parameter in found]
        return named or [parameter for key, parameter in model.named_parameters() if is_within(key, name)]

    return chosen(names, find, (part for part, some in parts.items() if some))


def set_training_mode(model: nn.Module) -> None:
    """Train mode, but eval mode for every part whose parameters are all frozen: it has no dropout."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            module.eval()


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name, each once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The untrained tensors that a checkpoint needs: frozen parameters and persistent buffers, each once."""
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    tensors: dict[str, Tensor] = {}
    seen = set(trained)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    return tensors
