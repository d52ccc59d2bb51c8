"""The checkpoints of a training: what must hold before each, what it says about itself, and what is reported of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.durable import free_bytes
from engine.contract.locks import FolderLock, holder_of
from engine.contract.manifest import Manifest
from engine.contract.messages import Message
from engine.contract.untrusted import one_line
from engine.cpu.norms import all_finite
from engine.process.job import DivergedError, FolderLostError, Job, versions
from engine.training import optim
from engine.training.checkpoint import SAVE_ERRORS, CheckpointWriter
from engine.training.setup import Prepared


@dataclass
class Saving:
    """The checkpoints of one training; every method is called on all ranks together."""

    job: Job
    prepared: Prepared
    writer: CheckpointWriter
    lock: FolderLock | None = None  # of the output folder; on rank 0
    encodings: bool = False  # whether the encoder's output is kept across epochs
    newest: tuple[int, Path] | None = None  # its step and folder; on a rank that writes

    def save(self, loss: float, best_step: int, loss_ahead: Callable[[], float] | None) -> Path | None:
        """Saves and returns the checkpoint of this step; None, with a warning, if it could not be written.

        `loss` is that of the last step, `loss_ahead` computes that of the next one. The checkpoint of `best_step` is
        kept. Raises DivergedError or FolderLostError.
        """
        job = self.job
        # Only rank 0 knows what was saved, and all ranks must take the same branch: what follows has collectives.
        if job.world.from_main(self.newest is not None and self.newest[0] == job.step):
            return self.newest[1] if self.newest else None
        if not job.step:
            return None
        self._require_finite()
        about = self._manifest(loss)
        if loss_ahead is not None:
            about = replace(about, next_loss=loss_ahead())
        self.require_folder()
        job.phase("saving", job.step, self.prepared.steps_total)
        job.world.wait()
        saved = self._write(about, best_step) if job.world.is_main or self.writer.shared else None
        job.world.wait()
        job.phase("training", job.step, self.prepared.steps_total)
        if saved is not None:
            self.newest = (job.step, saved)
        return saved

    def require_folder(self) -> None:
        """Raises FolderLostError on every rank if another run has taken over the output folder."""
        job = self.job
        if job.world.from_main(self.lock is None or self.lock.hold()):
            return
        holder = holder_of(job.output.path).run or "?"
        message = Message.of("ended_folder_lost", path=str(job.output.path), run=holder, step=job.step)
        raise FolderLostError(message)

    def _require_finite(self) -> None:
        job, finite = self.job, all_finite(self.prepared.learning.values())
        if not (finite if self.prepared.shards is None else job.world.everyone(finite)):
            message = Message.of("ended_diverged_weights", step=job.step, **job.options())
            raise DivergedError(message, {}, optim.slower(job.config))

    def _write(self, about: Manifest, best_step: int) -> Path | None:
        job, place = self.job, self.job.output.checkpoints
        need, free = self.writer.bytes_needed(), free_bytes(place)
        if self.writer.shared:
            free = job.world.from_main(free)
        if need > free:
            shown = {"need": f"{need / 1e9:.2f} GB", "free": f"{free / 1e9:.2f} GB"}
            job.warn(Message.of("save_no_space", step=job.step, path=str(place), **shown))
            return None
        try:
            saved = self.writer.save(about)
        except SAVE_ERRORS as error:
            job.warn(Message.of("save_failed", step=job.step, path=str(place), why=one_line(error)))
            return None
        pruned = self.writer.prune(job.step, best_step)
        epoch, seconds = -(-job.step // self.prepared.per_epoch), round(saved.seconds, 3)
        job.emit(events.Checkpoint(epoch, job.step, str(saved.path), saved.size, seconds, pruned))
        return saved.path

    def _manifest(self, loss: float) -> Manifest:
        """What the checkpoint of this step will say about itself."""
        job, prepared = self.job, self.prepared
        return Manifest(
            run=job.record.run,
            step=job.step,
            epoch=job.step // prepared.per_epoch,
            steps_total=prepared.steps_total,
            loss=loss,
            world_size=job.world.size,
            effective_batch=prepared.effective_batch,
            encodings=self.encodings,
            layout=prepared.network.layout,
            config=to_json(job.config),
            data=prepared.data,
            left_out=prepared.left_out,
            versions=versions(),
        )
