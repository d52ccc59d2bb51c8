"""The training loop: steps, evaluations and checkpoints, from the first step or from where a run stopped.

Inputs are checked before anything is written; then steps follow each other until the last epoch is evaluated. A
resumed run computes its position from the number of steps done, so it needs no generator state and repeats
nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from engine.contract import certificate, events
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError, Message, Value
from engine.contract.scores import (
    Evaluation,
    Evaluations,
    MergeLosses,
    best_of,
    decisive,
    read_evaluations,
    score_phrase,
    score_phrases,
    write_evaluations,
)
from engine.contract.untrusted import one_line
from engine.data import batching
from engine.models import freezing, loading
from engine.models.registry import family_of
from engine.process.job import (
    DivergedError,
    Job,
    StopAskedError,
    UnpublishedError,
)
from engine.process.world import seed_step
from engine.training import best_choice, merging, optim
from engine.training.checkpoint import SAVE_ERRORS
from engine.training.epoch_losses import EpochLosses
from engine.training.evaluation import Evaluator
from engine.training.exporting import export_again, export_best, warn_if_target_is_taken
from engine.training.kept_rows import KeptRows
from engine.training.resume import Proof, longer_schedule
from engine.training.saving import Saving
from engine.training.score_events import (
    emit_ceiling,
    emit_score,
    eval_event,
    report_merge,
    warn_if_loss_rose,
    warn_if_start_was_better,
)
from engine.training.setup import Prepared, finished_owner, lock_output, prepare, release_output
from engine.training.sharded_step import ShardedRunner
from engine.training.step import StepResult, StepRunner
from engine.training.taking_over import keep_encodings, owner_of, saved_state, take_over, write_frozen


def train(job: Job) -> Message:
    """Runs the whole job; returns its final message. Raises InputError, StopAskedError or DivergedError."""
    lock = job.world.together(lambda: lock_output(job), chosen=job.world.is_main)
    if job.record.resume and (owner := finished_owner(job)):
        job.world.together(lambda: export_again(job), chosen=job.world.is_main)
        return Message.of("resume_finished", run=owner.run, steps_total=owner.steps_total, **job.options())
    try:
        prepared = prepare(job)
    except (InputError, StopAskedError):
        release_output(lock)
        raise
    owner = job.output.owner()
    try:
        return begin(job, prepared, lock).run()
    except InputError:  # the resumed run failed its proof: the folder is unchanged
        if lock is not None and owner.known and lock.hold():
            job.output.write_owner(owner)
        raise


def begin(job: Job, prepared: Prepared, lock: FolderLock | None = None) -> "Training":
    """Takes over the output folder and sets up optimizer and position; `lock` is that folder's, on rank 0."""
    start = prepared.start
    optimizer, writer = saved_state(job, prepared)
    job.world.together(lambda: take_over(job, prepared), chosen=job.world.is_main)
    if start is not None:
        epoch, total = 1 + start.step // prepared.per_epoch, prepared.steps_total
        job.notice(Message.of("resumed", checkpoint=str(start.path), epoch=epoch, step=start.step, steps_total=total))
    write_frozen(job, prepared, writer)
    newest = None if start is None else (start.step, start.path)
    saving = Saving(job, prepared, writer, lock, keep_encodings(job, prepared), newest)
    training = Training(job, prepared, optimizer, saving)
    if start is not None:
        job.step, training.last_loss = start.step, start.manifest.loss
        if job.world.is_main:
            drops = loading.drops(prepared.model)
            training.proof = Proof.of(job, start, drops=drops, layout=prepared.network.layout)
        job.notice(longer_schedule(job, start, prepared.steps_total))
        training.prove_until = job.world.from_main(training.proof.last if training.proof else 0)
    return training


@dataclass
class Training:
    """The loop, and its results so far."""

    job: Job
    prepared: Prepared
    optimizer: torch.optim.Optimizer
    saving: Saving
    evaluations: Evaluations = field(default_factory=dict)
    last_loss: float = float("nan")
    epoch_losses: EpochLosses = field(default_factory=EpochLosses)
    proof: Proof | None = None  # on rank 0, after a resume
    prove_until: int = 0  # the last step that must be repeated
    hurried: bool = False  # all ranks must save and exit without another computation
    ceiling_reported: bool = False
    kept_rows: KeptRows | None = None  # of a run, not of a rehearsal

    @property
    def step(self) -> int:
        """Optimizer steps done so far."""
        return self.job.step

    @property
    def best_by(self) -> str:
        """The measure that decides which evaluation is the best."""
        return decisive(self.job.config.best_by, family_of(self.prepared.model).rows)

    def run(self) -> Message:
        """Trains to the end."""
        job, prepared = self.job, self.prepared
        self.evaluations = job.world.from_main(read_evaluations(job.output))
        for message in best_choice.changed_measure(self.evaluations, self.best_by, job.output.best):
            job.notice(message)
        self.epoch_losses.resume({e.epoch: e.train_loss for e in self.evaluations.values() if e.train_loss})
        if job.world.is_main:
            warn_if_target_is_taken(job)
        runner, samples = self.runner(), self.samples()
        self.kept_rows = KeptRows.of(job, prepared.train_rows, prepared.per_epoch)
        if not self.step and job.config.eval_on_start == "yes":
            self._evaluate()
        if self.step and self.step % prepared.per_epoch == 0 and self.step not in self.evaluations:
            self._evaluate()  # the run was interrupted between the last step of an epoch and its evaluation
        freezing.set_training_mode(prepared.model)
        job.phase("training", self.step, prepared.steps_total)
        while self.step < prepared.steps_total:
            stop = self.one_step(runner, samples(self.step))
            epoch_done = self.step % prepared.per_epoch == 0
            if stop or epoch_done or self.step % job.config.save_steps == 0:
                saved = self.save(None if self.hurried else lambda: self.loss_ahead(runner, samples))
                if stop:
                    raise self._stopped(saved)
            if epoch_done:
                epoch = self.step // prepared.per_epoch
                warn_if_loss_rose(job, self.epoch_losses.end(epoch), epoch)
                self._evaluate()
        return self._finished()

    def samples(self) -> Callable[[int], batching.Ids]:
        """A function that returns the samples of the step after a number of steps, over all ranks."""
        config, selection, batch = self.job.config, self.prepared.selection, self.prepared.effective_batch

        def samples(steps_done: int) -> batching.Ids:
            epoch, step = divmod(steps_done, self.prepared.per_epoch)
            return selection.samples(config.seed, epoch, step * batch, (step + 1) * batch)

        return samples

    def loss_ahead(self, runner: StepRunner, samples: Callable[[int], batching.Ids]) -> float:
        """The loss of the next step, which a resumed run must reproduce."""
        seed_step(self.job.config.seed, self.step, self.job.world.rank)
        return runner.loss_of(samples(self.step))

    def runner(self) -> StepRunner:
        """The runner that computes the steps."""
        job, prepared, shards = self.job, self.prepared, self.prepared.shards
        kind = StepRunner if shards is None else partial(ShardedRunner, shards=shards)
        return kind(
            network=prepared.network,
            store=prepared.train_rows,
            world=job.world,
            parameters=list(prepared.learning.values()),
            micro_batch_tokens=job.config.micro_batch_tokens,
            max_grad_norm=job.config.max_grad_norm,
        )

    def one_step(self, runner: StepRunner, samples: batching.Ids) -> bool:
        """Does one optimizer step and writes its event; returns whether some rank was asked to stop."""
        job = self.job
        rate = optim.learning_rate(job.config, self.step, self.prepared.steps_total)
        optim.set_learning_rate(self.optimizer, rate)
        seed_step(job.config.seed, self.step, job.world.rank)
        result = runner.run(samples, stop_asked=job.stop_asked())
        if result.abandoned:
            return self._discard_step()
        if self.kept_rows is not None:
            self.kept_rows.add(result)
        if not result.finite:
            raise self._diverged(runner, result, samples)
        if self.step < self.prove_until:
            job.world.together(lambda: self._prove(result.loss), chosen=job.world.is_main)
        rows = [self.prepared.train_rows.row_number(int(sample)) for sample in samples]
        began = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds_optimizer = time.perf_counter() - began
        job.step += 1
        self.last_loss = result.loss
        self.epoch_losses.add(result.loss, result.label_tokens, first=job.step == 1)
        job.emit(
            events.Step(
                epoch=1 + (self.step - 1) // self.prepared.per_epoch,
                step=self.step,
                steps_total=self.prepared.steps_total,
                loss=result.loss,
                lr=rate,
                grad_norm=result.grad_norm,
                label_tokens=result.label_tokens,
                tokens=result.tokens,
                padded_tokens=result.padded_tokens,
                seconds_data=round(result.seconds_data, 6),
                seconds_forward_backward=round(result.seconds_forward_backward, 6),
                seconds_communication=round(result.seconds_communication, 6),
                seconds_optimizer=round(seconds_optimizer, 6),
                micro_batches=result.micro_batches,
                sample_ids=rows,
            )
        )
        return result.stop_asked

    def _discard_step(self) -> bool:
        """Discards the aborted step; returns that the run must stop."""
        self.hurried = True
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def _prove(self, loss: float) -> None:
        if self.proof is not None:
            self.proof.check(self.step + 1, loss)

    def save(self, loss_ahead: Callable[[], float] | None) -> Path | None:
        """Saves and returns the checkpoint of this step; None, with a warning, if it could not be written."""
        return self.saving.save(self.last_loss, best_of(self.evaluations)[0], loss_ahead)

    def evaluator(self) -> Evaluator:
        """The evaluator on the validation rows."""
        job, prepared = self.job, self.prepared
        return Evaluator(
            prepared.network,
            prepared.tokenizer,
            prepared.validation_rows,
            prepared.references,
            job.world,
            job.config,
            job.phase,
        )

    def _evaluate(self) -> None:
        """Scores the model on the validation rows, and publishes it if it is the best so far."""
        job, prepared = self.job, self.prepared
        epoch = self.step // prepared.per_epoch
        try:
            score = self.evaluator().run()
        except StopAskedError:  # the steps are saved; a resumed run repeats the evaluation
            raise self._stopped(self.saving.newest[1] if self.saving.newest else None) from None
        found = eval_event(score, epoch, self.step, self.best_by)
        emit_score(job, score, found)
        if not self.ceiling_reported:
            self.ceiling_reported = True
            emit_ceiling(job, score)
        self.saving.require_folder()
        if job.world.is_main or self.saving.writer.shared:
            self._record(found)
        self.evaluations = job.world.from_main(self.evaluations)
        freezing.set_training_mode(prepared.model)
        job.phase("training", self.step, prepared.steps_total)

    def _record(self, found: events.Eval) -> None:
        """Publishes the model if it is the best so far; the one that the run starts from is never published."""
        if not self.step:
            return
        train_loss = self.epoch_losses.means.get(found.epoch)
        scores = (found.loss, found.bleu, found.signature, found.against)
        this = Evaluation(found.epoch, *scores, train_loss, measures=found.measures, best_by=found.best_by)
        others = {step: other for step, other in self.evaluations.items() if step < self.step}
        published = best_choice.is_best(this, others)
        self.job.notice(best_choice.incomparable(this, others))
        try:
            if published:
                this = replace(this, merge=self._publish(this))
            self.evaluations = {**others, self.step: replace(this, published=published)}
            if self.job.world.is_main:
                write_evaluations(self.job.output, self.evaluations)
        except SAVE_ERRORS as error:
            path, why = str(self.job.output.best), one_line(error)
            self.job.warn(Message.of("publish_failed", path=path, why=why))
            self.evaluations = others  # a run resumed from here repeats the evaluation

    def _publish(self, best: Evaluation) -> MergeLosses | None:
        """Publishes the model as it is; returns what merging an adapter into it changed."""
        job, prepared = self.job, self.prepared
        job.phase("publishing")
        prepared.network.begin_step()  # drops what was prepacked for the evaluation
        adapters = prepared.adapters
        self.saving.writer.publish(prepared.tokenizer, job.config.pretrained_model)
        path, score = str(job.output.best), score_phrase(best)
        job.notice(Message.of("best_published", score=score, epoch=best.epoch, path=path))
        if job.world.is_main:
            export_best(job, prepared.model)
        if adapters is None:
            return None
        rows, budget = prepared.validation_rows, job.config.micro_batch_tokens
        found = merging.merge_losses(prepared.network, rows, budget, self.saving.writer.as_loaded(), adapters)
        report_merge(job, found, str(adapters.kind).removeprefix("torch."))
        return found

    def _stopped(self, saved: Path | None) -> StopAskedError:
        job, reason = self.job, self.job.stop_asked.reason()
        args = {"step": self.step, "steps_total": self.prepared.steps_total, "run": job.record.run, **job.options()}
        if not self.step:
            return StopAskedError(certificate.stopped_early(job.record, job.phase_name, reason))
        if not job.world.is_main:  # only rank 0 knows what it saved
            saved = next(map(job.output.checkpoint, job.output.checkpoint_steps()), None)
        if saved is None:
            return StopAskedError(Message.of("ended_stopped_unsaved", **args))
        return StopAskedError(Message.of(f"ended_{reason}", checkpoint=str(saved), **args))

    def _diverged(self, runner: StepRunner, result: StepResult, samples: batching.Ids) -> DivergedError:
        """The error that names the rows at fault, found by recomputing micro-batches one by one."""
        job, rows = self.job, self.prepared.train_rows.rows
        seed_step(job.config.seed, self.step, job.world.rank)
        mine = [int(rows[sample]) for sample in runner.not_finite(samples)]
        found = {rank: its for rank, its in enumerate(job.world.gather([mine])) if its}
        named = next(iter(found.values()), [int(rows[sample]) for sample in samples])
        evidence = {f"rows_rank{rank}": _listed(its, 64) for rank, its in found.items()}
        args: dict[str, Value] = {
            "loss": str(result.loss),
            "grad_norm": str(result.grad_norm),
            "rows": _listed(named, 16),
        }
        rank = ", ".join(map(str, found)) or "-"
        message = Message.of("ended_diverged", step=self.step + 1, rank=rank, **args, **job.options())
        return DivergedError(message, evidence, optim.slower(job.config))

    def _finished(self) -> Message:
        job, (_, best) = self.job, best_of(self.evaluations)
        loss, path, total = f"{self.last_loss:.4f}", str(job.output.best), self.prepared.steps_total
        self.saving.require_folder()
        if job.world.is_main and best is not None:
            export_best(job, self.prepared.model)
            warn_if_start_was_better(job, best)
            try:
                job.output.write_owner(owner_of(job, self.prepared, finished=True))
            except OSError as error:
                job.warn(Message.of("save_failed", step=self.step, path=path, why=one_line(error)))
        if best is None:
            raise UnpublishedError(
                Message.of("ended_finished_unpublished", steps_total=total, loss=loss, path=path, **job.options())
            )
        scores = score_phrases(best)
        return Message.of("ended_finished", steps_total=total, scores=scores, epoch=best.epoch, path=path)


def _listed(numbers: list[int], most: int) -> str:
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
