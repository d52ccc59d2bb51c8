"""The model by which rows of a run are weighed: its best one, else its newest checkpoint, else what it began with."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.scores import best_of, read_evaluations
from engine.contract.weighed import Origin
from engine.data.token_store import Row
from engine.models import loading, lora
from engine.models.loss import keeping_token_losses
from engine.models.network import Network, packs
from engine.models.on_device import on_device
from engine.models.registry import family_of
from engine.training import checkpoint

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Weights:
    """A model that computes rows as the run did, but without dropout; where it came from, and after how many steps."""

    network: Network
    origin: Origin
    step: int

    @classmethod
    def of(cls, config: RunConfig, tokenizer: PreTrainedTokenizerBase, output: OutputDir | None) -> "Weights":
        """The model of a run whose output is in a folder; raises InputError."""
        origin: Origin = "base"
        step = 0
        if output is not None and output.best.is_dir():
            net, origin = _loaded(replace(config, pretrained_model=str(output.best)), tokenizer), "best"
            step = best_of(read_evaluations(output))[0] or 0
        elif output is not None and (found := checkpoint.newest_sound(output)[0]) is not None:
            net, origin, step = _of_checkpoint(config, found), "checkpoint", found.step
        elif config.pretrained_model:
            net = _loaded(config, tokenizer)
        else:
            raise InputError("weights_none", path=config.output_dir)
        net.eval()
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        network = on_device(net, config, CPU).network
        network.begin_step()
        return cls(network, origin, step)

    def losses(self, row: Row) -> list[float]:
        """The loss of each learned token of a row."""
        with torch.no_grad(), keeping_token_losses() as found:
            self.network.summed_loss([row])
        return [round(float(loss), 6) for part in found for loss in part]


def _loaded(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> torch.nn.Module:
    net: torch.nn.Module = loading.load_model(config, tokenizer, packed=packs(CPU))
    return net


def _of_checkpoint(config: RunConfig, found: checkpoint.FoundCheckpoint) -> torch.nn.Module:
    """The model of a checkpoint, with its adapters if it has some."""
    weights, _ = lora.split(found.weights())
    net: torch.nn.Module = loading.build_model(found.model_config(), weights, found.path, packed=packs(CPU))
    loading.detach_from_files((*net.parameters(), *net.buffers()))
    _, adapters = lora.prepare_learning(net, config, family_of(net).parts(net))
    lora.restore(adapters, found.trained(), str(found.path))
    return net


def known_by(config: RunConfig, output: OutputDir | None) -> RunConfig:
    """The settings with the best model's folder in place of files that no longer exist."""
    if output is None or not output.best.is_dir() or not config.pretrained_model:
        return config
    best, tokenizer = str(output.best), config.tokenizer
    model = config.pretrained_model if Path(config.pretrained_model).exists() else best
    if not Path(tokenizer or model).exists():
        tokenizer = best
    return replace(config, pretrained_model=model, tokenizer=tokenizer)
