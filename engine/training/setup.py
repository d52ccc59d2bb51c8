"""The start of a training: inputs checked, everything loaded, the checkpoint found, before anything is written."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from engine.contract import environment, events
from engine.contract.config import RunConfig
from engine.contract.durable import free_bytes
from engine.contract.facts import DATA_FILES
from engine.contract.inputs import require_files, require_positions, require_shardable
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError, Message
from engine.contract.owner import Owner
from engine.data import batching
from engine.data.chat.settings import RowKind
from engine.data.fingerprints import tokenizer_sha256
from engine.data.parquet_rows import RowSource
from engine.data.references import Reference
from engine.data.selection import Selection
from engine.data.token_store import TokenStore
from engine.data.tokenizer import require_own_vocabulary
from engine.models import freezing, loading, lora
from engine.models.finite import require_numbers
from engine.models.freezing import Frozen
from engine.models.generation import end_replies_at
from engine.models.lora import Adapters
from engine.models.network import Network, packs
from engine.models.on_device import OnDevice, divided, on_device
from engine.models.registry import family_for, family_of
from engine.models.weightfile import weight_files
from engine.process import exchange
from engine.process.job import Job, versions
from engine.process.likeness import require_alike
from engine.process.shared_folder import require_shared
from engine.process.world import World
from engine.training import checkpoint, resume
from engine.training.checkpoint import FoundCheckpoint
from engine.training.rows_left_out import rows_left_out, selected

if TYPE_CHECKING:
    from engine.models.sharding import Shards


@dataclass(frozen=True)
class Prepared:
    """What training starts from; nothing has been written to the output folder yet."""

    tokenizer: PreTrainedTokenizerBase
    model: Any
    network: Network
    adapters: Adapters | None  # what learns, if the rest of the model does not
    shards: "Shards | None"  # if the model is divided among the ranks
    unchanged: dict[str, torch.Tensor]  # what does not learn as it was loaded, until it is written, if it was cast
    train_rows: TokenStore
    left_out: tuple[int, ...]  # rows of the training file
    selection: Selection  # of the training rows
    validation_rows: TokenStore
    references: list[Reference]  # of the validation rows for which replies are generated
    start: FoundCheckpoint | None
    data: dict[str, str]
    effective_batch: int  # rows of a step over all ranks
    per_epoch: int
    steps_total: int

    @property
    def learning(self) -> dict[str, torch.nn.Parameter]:
        """What learns, by name; of a divided model, the share of this rank."""
        return freezing.trained_parameters(self.model) if self.shards is None else self.shards.mine


def lock_output(job: Job) -> FolderLock:
    """The lock of the output folder: the supervisor's, passed on to us, or one of our own; raises InputError."""
    folder, run, run_dir = job.output.path, job.record.run, job.run_dir.path
    if environment.LOCK_FD in os.environ:
        return FolderLock.inherited(folder, int(os.environ[environment.LOCK_FD]), run, run_dir)
    return FolderLock.acquire(folder, run, run_dir)


def release_output(lock: FolderLock | None) -> None:
    """Releases the output folder if nothing was done; a lock that a supervisor passed on is left to the supervisor."""
    if lock is not None and environment.LOCK_FD not in os.environ:
        lock.abandon()


def finished_owner(job: Job) -> Owner | None:
    """The run that finished in this folder, unless more epochs are requested than it has; None if there is none."""
    owner: Owner = job.world.from_main(job.output.owner())
    return owner if job.record.is_finished(owner) else None


def prepare(job: Job) -> Prepared:
    """Checks and loads everything that training needs; raises InputError or StopAskedError."""
    config, world = job.config, job.world
    job.phase("loading")
    if len(world.machines) > 1:
        require_alike(world, versions())
        require_shared(world, job.output.path, "output_dir")
        machines = ", ".join(dict.fromkeys(world.nodes))
        job.notice(Message.of("machines_met", ranks=world.size, names=machines))
    sources = _sources(job, family_for(config).rows)
    require_files(config, "tokenizer")
    data = job.started(sources)
    tokenizer = loading.load_tokenizer_of(config)
    job.look_into(sources, tokenizer)
    data["tokenizer"] = tokenizer_sha256(tokenizer)
    start = resume.starting_point(job, data)
    net = _resumed_model(job, start, data) if start is not None else _first_model(job, tokenizer, data)
    family = family_of(net)
    require_shardable(config, family.name, world.size, net.config.to_dict())
    sources = _sources(job, family.rows)  # of a resumed run: the model that it began with may be gone
    frozen, adapters = _learning(net, config, start)
    if config.shard == "off":  # or else each rank takes only its share
        learning = freezing.trained_parameters(net).values()
        loading.detach_from_files(learning, torch.float32)  # the rest after it is written
    job.phase("tokenizing")
    train_rows, validation_rows = (job.store(source, tokenizer) for source in sources)
    end_replies_at(net, train_rows.stops)
    left_out = rows_left_out(job, start, data)
    selection = selected(job, train_rows, left_out)
    references = job.references(sources[1], validation_rows)
    places = family.positions(net)
    for source, rows in zip(sources, (train_rows, validation_rows), strict=True):
        require_positions(str(source.path), config, rows.longest(), places)
    job.world.together(lambda: _check_space(job, net, adapters), chosen=world.is_main)
    job.phase("loading")
    ready, shards = _on_devices(net, config, world, start)
    if ready.head_missing is not None:
        job.warn(ready.head_missing)
    for message in (*frozen.notices, ready.fallback, *ready.network.notices):
        job.notice(message)
    job.notice(exchange.measured(world, frozen.trained, shards.gathered if shards is not None else 0))
    batch = resume.effective_batch(job, start)
    job.notice(resume.other_ranks(job, start, batch) if start is not None else None)
    per_epoch = batching.steps_per_epoch(selection.count, batch)
    job.emit(
        events.Plan(
            rows=selection.count,
            steps_per_epoch=per_epoch,
            steps_total=per_epoch * config.epochs,
            step=start.step if start else 0,
            effective_batch=batch,
            parameters=frozen.parameters,
            parameters_trained=frozen.trained,
            precision=ready.precision,
            micro_batch_tokens=config.micro_batch_tokens,
        )
    )
    return Prepared(
        tokenizer,
        net,
        ready.network,
        adapters,
        shards,
        ready.unchanged,
        train_rows,
        left_out,
        selection,
        validation_rows,
        references,
        start,
        data,
        batch,
        per_epoch,
        per_epoch * config.epochs,
    )


def _on_devices(
    net: Any, config: RunConfig, world: World, start: FoundCheckpoint | None
) -> "tuple[OnDevice, Shards | None]":
    if config.shard == "full":
        return divided(net, config, world)
    layout = start.manifest.layout if start is not None else ""
    return on_device(net, config, world.device, world.everyone, layout), None


def _first_model(job: Job, tokenizer: PreTrainedTokenizerBase, data: dict[str, str]) -> Any:
    """The model that a run starts from, whose hash is added to `data`."""
    config, world = job.config, job.world
    require_files(config, "pretrained_model")
    require_own_vocabulary(tokenizer, config)
    if config.pretrained_model and world.is_main:
        data["pretrained_model"] = resume.base_model_sha256(Path(config.pretrained_model))
    net = loading.load_mapped(config, tokenizer, packed=packs(world.device), notify=job.notice)
    # It records its findings, and a refused run must leave nothing behind.
    world.together(lambda: _require_numbers(config), chosen=world.is_main)
    if not config.pretrained_model:
        job.notice(Message.of("model_new", seed=config.seed))
    return net


def _resumed_model(job: Job, start: FoundCheckpoint, data: dict[str, str]) -> Any:
    """The model of a checkpoint, without adapters; the hash of the model it began with is added to `data`."""
    data["pretrained_model"] = start.manifest.data.get("pretrained_model", "")
    job.phase("loading")
    # Of what is divided among the ranks, each takes its share once the model is.
    held = start.weights() if job.config.shard == "off" else start.outline()
    weights, _ = lora.split(held)
    net = loading.build_model(start.model_config(), weights, start.path, packed=packs(job.world.device))
    net.generation_config = start.generation_config()
    return net


def _learning(net: Any, config: RunConfig, start: FoundCheckpoint | None) -> tuple[Frozen, Adapters | None]:
    """What learns of a model; adapters as they are in the checkpoint, if there is one."""
    frozen, adapters = lora.prepare_learning(net, config, family_of(net).parts(net))
    if start is not None and not (config.shard == "full" and start.sharded):
        lora.restore(adapters, start.trained(), str(start.path))
    if adapters is not None:
        files = weight_files(Path(config.pretrained_model)) if start is None else [start.frozen]
        adapters = replace(adapters, kind=loading.dtype_of(files))
        net.config.dtype = adapters.kind
    return frozen, adapters


def _sources(job: Job, rows: RowKind) -> list[RowSource]:
    return [job.source(setting, rows) for setting in DATA_FILES]


def _require_numbers(config: RunConfig) -> None:
    if config.pretrained_model:
        require_numbers(weight_files(Path(config.pretrained_model)), Path(config.token_store))


def _check_space(job: Job, net: Any, adapters: Adapters | None) -> None:
    need, free = checkpoint.bytes_needed(net, job.config.optimizer, adapters), free_bytes(job.output.path)
    if need > free:
        sizes = {
            name: f"{size / 1e9:.2f} GB" for name, size in (("need", need), ("free", free), ("short", need - free))
        }
        raise InputError("space_short", path=str(job.output.path), **sizes)
