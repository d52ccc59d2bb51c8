"""What a run does to its output folder before the first step: takes it over, and writes what never changes."""

from typing import Any

import torch

from engine.contract.config import to_json
from engine.contract.durable import free_bytes
from engine.contract.files import STAGED, reason, require_own_folder
from engine.contract.messages import InputError, Message
from engine.contract.owner import Owner
from engine.contract.untrusted import one_line
from engine.models import loading
from engine.process.job import Job
from engine.training import checkpoint, optim
from engine.training.checkpoint import SAVE_ERRORS, CheckpointWriter
from engine.training.setup import Prepared
from engine.training.sharded_checkpoint import ShardedWriter, restore


def take_over(job: Job, prepared: Prepared) -> None:
    """Makes the output folder this run's, and sets aside what another left there; raises InputError."""
    output = job.output
    for folder in (output.checkpoints, output.checkpoints / "frozen", output.earlier):
        try:
            require_own_folder(folder)  # otherwise another run's checkpoints would be pruned
        except OSError as error:
            raise InputError("folder_unwritable", path=str(folder), setting="output_dir", why=reason(error)) from None
    checkpoint.remove_leftovers(output)
    if prepared.start is None:
        old = output.owner().run or "?"
        aside = output.set_aside()
        if aside is not None:
            path, size = aside
            shown = f"{size / 1e9:.2f} GB"
            job.notice(Message.of("set_aside", run=old, path=str(output.path), aside=str(path), size=shown))
    try:
        output.write_owner(owner_of(job, prepared, finished=False))
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError("folder_unwritable", path=str(output.path), why=why, setting="output_dir") from None


def saved_state(job: Job, prepared: Prepared) -> tuple[torch.optim.Optimizer, CheckpointWriter]:
    """The optimizer, as in the checkpoint if there is one, and the writer of the next ones; raises InputError."""
    start, shards, parameters = prepared.start, prepared.shards, prepared.learning
    optimizer = optim.make_optimizer(job.config, parameters.values())
    frozen = start.manifest.frozen if start else None
    place = (job.output, prepared.model, optimizer)
    about: dict[str, Any] = {"keep": job.config.keep_latest_n_ckp, "frozen": frozen, "adapters": prepared.adapters}
    if shards is not None:
        if start is not None:
            restore(shards, optimizer, start)
        return optimizer, ShardedWriter(*place, shards=shards, **about)
    if start is not None:
        optim.load_state_tensors(optimizer, parameters, start.optimizer_state())
    return optimizer, CheckpointWriter(*place, unchanged=prepared.unchanged, **about)


def write_frozen(job: Job, prepared: Prepared, writer: CheckpointWriter) -> None:
    """Writes the frozen tensors as they were loaded, and then keeps only the form that the network computes with.

    If they cannot be written, everything is kept, and the first checkpoint tries again.
    """

    def write() -> bool:
        try:
            writer.write_frozen()
        except SAVE_ERRORS as error:
            job.warn(Message.of("save_failed", step=0, path=str(job.output.checkpoints), why=one_line(error)))
            return False
        return True

    written = job.world.from_main(write() if job.world.is_main or writer.shared else False)
    if written:
        prepared.network.drop_frozen_fp32()
    if written or not job.world.is_main:
        prepared.unchanged.clear()
    net = prepared.model
    if prepared.shards is not None:  # what a rank holds are copies already
        return
    frozen = (p for p in net.parameters() if not p.requires_grad)
    loading.detach_from_files((*frozen, *net.buffers(), *prepared.unchanged.values()))


def keep_encodings(job: Job, prepared: Prepared) -> bool:
    """Whether the encoder's output is kept across epochs; a resumed run continues as it began, to the same bits.

    The disk must have room for it in addition to the checkpoints: if not, rows are recomputed, with the same results.
    """
    network, store, start = prepared.network, prepared.train_rows, prepared.start
    size = network.encodings_bytes(store)
    if size is None:
        return False
    wanted = size <= job.config.encoder_cache * 1e9 and job.config.epochs > 1
    each = checkpoint.bytes_needed(prepared.model, job.config.optimizer, prepared.adapters)
    need = size + (job.config.keep_latest_n_ckp + 2) * each
    room = job.world.from_main(free_bytes(job.output.path) >= need)
    if not (wanted and room if start is None else start.manifest.encodings):
        return False
    # Two machines that map one file of a network file system do not see each other's writes in order.
    own = f"-node{job.world.machine}" if len(job.world.machines) > 1 else ""
    base = job.output.path / f"{STAGED}encodings{own}"
    return network.keep_encodings(store, base, job.world, writes=room)


def owner_of(job: Job, prepared: Prepared, *, finished: bool) -> Owner:
    """What the output folder says of the run that it belongs to."""
    return Owner(
        run=job.record.run,
        id=job.record.id,
        run_dir=str(job.run_dir.path.absolute()),
        output_dir=str(job.output.path.resolve()),
        steps_total=prepared.steps_total,
        config=to_json(job.config),
        finished=finished,
        best=job.output.files_of_best(),
    )
