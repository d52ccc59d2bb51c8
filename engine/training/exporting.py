"""The best model of a run as a plain state dict, for programs that read no other format; used on rank 0 only."""

from pathlib import Path
from typing import Any

from engine.contract import exports
from engine.contract.config import override
from engine.contract.durable import sync
from engine.contract.files import staged as staged_at
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.untrusted import one_line
from engine.models import loading, lora
from engine.models.network import packs
from engine.process.job import Job
from engine.training import tensorfile
from engine.training.checkpoint import MODEL_WEIGHTS, SAVE_ERRORS, describe
from engine.training.statedict import write_state_dict


def target_of(job: Job) -> Path | None:
    """The path of the state dict; None if none is requested."""
    return Path(job.config.export_state_dict) if job.config.export_state_dict else None


def warn_if_target_is_taken(job: Job) -> None:
    """Warns at the start if the target is a file that no run of this folder wrote."""
    target = target_of(job)
    if target is not None and not exports.may_be_written(target, job.output):
        job.warn(Message.of("export_kept", path=str(target), best=str(job.output.best)))


def export_best(job: Job, net: Any) -> None:
    """Writes the published model unless that was done; an obstacle only causes a warning."""
    target = target_of(job)
    if target is None:
        return
    try:
        if not exports.is_due(target, job.output):
            return
        if not exports.may_be_written(target, job.output):
            job.warn(Message.of("export_kept", path=str(target), best=str(job.output.best)))
            return
        _write(job.output, target, names_of(net))
        job.notice(Message.of("exported", path=str(target)))
    except SAVE_ERRORS as error:
        job.warn(Message.of("export_failed", path=str(target), why=one_line(error)))


def export_again(job: Job) -> None:
    """Writes the best model of a finished run if that is now requested and was not done; raises InputError."""
    target, best = target_of(job), str(job.output.best)
    if target is None or not exports.is_due(target, job.output):
        return
    if not exports.may_be_written(target, job.output):
        raise InputError("export_kept", path=str(target), best=best)
    job.phase("publishing")
    own = override(job.config, {"pretrained_model": best, "tokenizer": best})[0]
    net = loading.load_mapped(own, loading.load_tokenizer_of(own), packed=packs(job.world.device))
    try:
        _write(job.output, target, names_of(net))
    except SAVE_ERRORS as error:
        raise InputError(
            "folder_unwritable", path=str(target), setting="export_state_dict", why=one_line(error)
        ) from None
    job.notice(Message.of("exported", path=str(target)))


def names_of(net: Any) -> dict[str, str]:
    """Every name in a model's state dict without adapters, with that of the same tensor in the published model."""
    first: dict[int, str] = {id(parameter): name for name, parameter in net.named_parameters()}
    names: dict[str, str] = {}
    for name, tensor in lora.split(net.state_dict(keep_vars=True))[0].items():
        names[name] = first.setdefault(id(tensor), name)
    return names


def _write(output: OutputDir, target: Path, names: dict[str, str]) -> None:
    """Writes a temporary file and renames it; the record is written first, so that no exported file is without one."""
    source = exports.digest_of_best(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    same_disk = target.parent.stat().st_dev == output.path.stat().st_dev
    folder = output.path if same_disk else target.parent  # a run removes leftovers from its own folder only
    staged = staged_at(folder / "export.bin")
    try:
        write_state_dict(staged, tensorfile.stored(output.best / MODEL_WEIGHTS), names)
        exports.remember(output, target, describe(staged), source)
        staged.rename(target)
        sync(target.parent)
    finally:
        staged.unlink(missing_ok=True)
