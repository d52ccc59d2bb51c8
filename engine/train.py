"""Train: `python -m engine.train RUN_DIR`, alone or under `accelerate launch`; RUN_DIR holds the run's record.

Inputs are checked before anything is written, then steps follow each other until the last epoch is evaluated. A
resumed run computes its position from the number of steps behind it, so it needs no generator state and repeats
nothing.
"""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from engine import batching, checkpoint, model, optim
from engine.checkpoint import SAVE_ERRORS, CheckpointWriter, Found
from engine.contract import events
from engine.contract.config import differences_on_resume, to_json
from engine.contract.inputs import require_files
from engine.contract.messages import InputError, Message
from engine.contract.rundir import FolderLock, RunDir, free_bytes, read_json, refuse_unfinished, write_json
from engine.evaluate import Evaluator, Score
from engine.job import DivergedError, Job, StopAskedError, UnpublishedError, execute, leave, versions
from engine.loss import Head, find_head
from engine.step import StepResult, StepRunner
from engine.tokens import TokenStore, tokenizer_sha256
from engine.world import World, seed_step


@dataclass(frozen=True)
class Prepared:
    """What training starts from; nothing has been written to the output folder yet."""

    tokenizer: PreTrainedTokenizerBase
    model: Any
    head: Head | None
    train_rows: TokenStore
    validation_rows: TokenStore
    start: Found | None
    data: dict[str, str]
    autocast: bool
    per_epoch: int
    steps_total: int


def train(job: Job) -> Message:
    """The whole job; what to say when it is done. Raises InputError, StopAskedError or DivergedError."""
    lock = job.world.together(lambda: FolderLock.acquire(job.output, job.record.run), chosen=job.world.is_main)
    if job.record.resume and job.world.from_main(job.output.owner()).get("finished"):
        owner = job.output.owner()
        return Message.of("resume_finished", run=owner["run"], steps_total=owner["steps_total"], **job.options())
    try:
        prepared = _prepare(job)
    except (InputError, StopAskedError):
        if lock is not None:
            lock.abandon()
        raise
    training = _begin(job, prepared)
    return training.run()


def _prepare(job: Job) -> Prepared:
    config, world = job.config, job.world
    job.phase("loading")
    sources = [job.source("train_file"), job.source("validation_file")]
    require_files(config, "tokenizer")
    data = job.started(sources)
    tokenizer = model.load_tokenizer(config.tokenizer)
    data["tokenizer"] = tokenizer_sha256(tokenizer)
    start = _starting_point(job, data)
    if start is not None:
        net = model.build_model(start.model_config(), start.weights(), start.path)
        net.generation_config = start.generation_config()
    else:
        require_files(config, "pretrained_model")
        net = model.load_model(config, tokenizer)
        if not config.pretrained_model:
            job.notice(Message.of("model_new", seed=config.seed))
    frozen = model.freeze(net, config.freeze)
    job.phase("tokenizing")
    train_rows, validation_rows = (job.store(source, tokenizer) for source in sources)
    job.world.together(lambda: _check_space(job, net), chosen=world.is_main)
    net.to(world.device)
    head = find_head(net)
    if head is None:
        job.warn(Message.of("head_not_separable", model=type(net).__name__))
    precision, notice = model.choose_precision(config.mixed_precision, world.device)
    for message in (*frozen.notices, notice):
        job.notice(message)
    batch = config.effective_batch(world.size)
    per_epoch = batching.steps_per_epoch(len(train_rows), batch)
    job.emit(
        events.Plan(
            rows=len(train_rows),
            steps_per_epoch=per_epoch,
            steps_total=per_epoch * config.epochs,
            step=start.step if start else 0,
            effective_batch=batch,
            parameters=frozen.parameters,
            parameters_trained=frozen.trained,
            precision=precision,
            micro_batch_tokens=config.micro_batch_tokens,
        )
    )
    autocast = precision == "bf16"
    return Prepared(
        tokenizer, net, head, train_rows, validation_rows, start, data, autocast, per_epoch, per_epoch * config.epochs
    )


def _starting_point(job: Job, data: dict[str, str]) -> Found | None:
    """The checkpoint to go on from, verified by rank 0; raises InputError where it may not be used."""
    record, output = job.record, job.output

    def find() -> Found | None:
        if not record.resume:
            if not record.fresh:
                refuse_unfinished(output, resume_option=record.resume_option, fresh_option=record.fresh_option)
            return None
        checkpoint.restore_best(output)
        found, skipped = checkpoint.newest_sound(output)
        for message in skipped:
            job.warn(message)
        if found is None:
            job.notice(Message.of("resume_nothing", path=str(output.path)))
            return None
        _refuse_differences(job, found, data)
        return found

    return job.world.from_main(job.world.together(find, chosen=job.world.is_main))  # type: ignore[no-any-return]


def _refuse_differences(job: Job, found: Found, data: dict[str, str]) -> None:
    then = found.manifest
    differences = differences_on_resume(then["config"], job.config)
    if then["world_size"] != job.world.size:
        differences["processes"] = [then["world_size"], job.world.size]
    for name in ("train_file", "tokenizer"):
        if then["data"][name] != data[name]:
            differences[f"content of {name}"] = [then["data"][name][:12], data[name][:12]]
    if differences:
        listed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in differences.items())
        raise InputError("resume_differs", checkpoint=str(found.path), differences=listed, **job.options())


def _check_space(job: Job, net: Any) -> None:
    need, free = checkpoint.bytes_needed(net, job.config.optimizer), free_bytes(job.output.path)
    if need > free:
        sizes = {
            name: f"{size / 1e9:.2f} GB" for name, size in (("need", need), ("free", free), ("short", need - free))
        }
        raise InputError("space_short", path=str(job.output.path), **sizes)


def _begin(job: Job, prepared: Prepared) -> "Training":
    """Takes the output folder over and puts optimizer and position in place."""
    job.world.together(lambda: _take_over(job, prepared), chosen=job.world.is_main)
    parameters = model.trained_parameters(prepared.model)
    optimizer = optim.make_optimizer(job.config, parameters.values())
    start = prepared.start
    if start is not None:
        optim.load_state_tensors(optimizer, parameters, start.optimizer_state())
        epoch, total = 1 + start.step // prepared.per_epoch, prepared.steps_total
        job.notice(Message.of("resumed", checkpoint=str(start.path), epoch=epoch, step=start.step, steps_total=total))
    writer = CheckpointWriter(
        job.output,
        prepared.model,
        optimizer,
        keep=job.config.keep_latest_n_ckp,
        frozen=start.manifest["frozen"] if start else None,
    )
    training = Training(job, prepared, optimizer, writer)
    if start is not None:
        training.step, training.last_loss = start.step, float(start.manifest["loss"])
    return training


def _take_over(job: Job, prepared: Prepared) -> None:
    output = job.output
    checkpoint.remove_leftovers(output)
    if prepared.start is None:
        old = str(output.owner().get("run", "?"))
        aside = output.set_aside()
        if aside is not None:
            path, size = aside
            shown = f"{size / 1e9:.2f} GB"
            job.notice(Message.of("set_aside", run=old, path=str(output.path), aside=str(path), size=shown))
    write_json(output.owner_file, _owner(job, prepared, finished=False))


def _owner(job: Job, prepared: Prepared, *, finished: bool) -> dict[str, Any]:
    return {
        "run": job.record.run,
        "run_dir": str(job.run_dir.path.absolute()),
        "steps_total": prepared.steps_total,
        "config": to_json(job.config),
        "finished": finished,
    }


@dataclass
class Training:
    """The loop and where it is; `step` counts the optimizer steps done."""

    job: Job
    prepared: Prepared
    optimizer: torch.optim.Optimizer
    writer: CheckpointWriter
    step: int = 0
    evaluations: dict[str, Any] = field(default_factory=dict)  # {step: {epoch, loss, bleu, signature, published}}
    last_loss: float = float("nan")

    def run(self) -> Message:
        """Trains to the end."""
        job, prepared = self.job, self.prepared
        self.evaluations = job.world.from_main(read_json(job.output.evaluations))
        runner = self._runner()
        order, order_epoch = None, -1
        if self.step and self.step % prepared.per_epoch == 0 and str(self.step) not in self.evaluations:
            self._evaluate()  # the run was cut between the last step of an epoch and its score
        model.set_training_mode(prepared.model)
        job.phase("training", self.step, prepared.steps_total)
        while self.step < prepared.steps_total:
            epoch, step_in_epoch = divmod(self.step, prepared.per_epoch)
            if order is None or order_epoch != epoch:
                order, order_epoch = batching.epoch_order(job.config.seed, epoch, len(prepared.train_rows)), epoch
            batch = job.config.effective_batch(job.world.size)
            stop = self._one_step(runner, batching.step_samples(order, step_in_epoch, batch))
            epoch_done = self.step % prepared.per_epoch == 0
            if stop or epoch_done or self.step % job.config.save_steps == 0:
                saved = self._save()
                if stop:
                    raise self._stopped(saved)
            if epoch_done:
                self._evaluate()
        return self._finished()

    def _runner(self) -> StepRunner:
        job, prepared = self.job, self.prepared
        return StepRunner(
            model=prepared.model,
            head=prepared.head,
            store=prepared.train_rows,
            world=job.world,
            parameters=list(model.trained_parameters(prepared.model).values()),
            pad=int(prepared.tokenizer.pad_token_id),
            micro_batch_tokens=job.config.micro_batch_tokens,
            loss_chunk_tokens=job.config.loss_chunk_tokens,
            max_grad_norm=job.config.max_grad_norm,
            autocast=prepared.autocast,
        )

    def _one_step(self, runner: StepRunner, samples: batching.Ids) -> bool:
        """One optimizer step and its event; whether some rank was asked to stop."""
        job = self.job
        rate = optim.learning_rate(job.config, self.step, self.prepared.steps_total)
        optim.set_learning_rate(self.optimizer, rate)
        seed_step(job.config.seed, self.step, job.world.rank)
        result = runner.run(samples, stop_asked=job.stop_asked())
        rows = [int(row) for row in self.prepared.train_rows.rows[samples]]
        if not result.finite:
            raise self._diverged(result, rows)
        began = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds_optimizer = time.perf_counter() - began
        self.step += 1
        self.last_loss = result.loss
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
                seconds_optimizer=round(seconds_optimizer, 6),
                micro_batches=result.micro_batches,
                sample_ids=rows,
            )
        )
        return result.stop_asked

    def _save(self) -> Path | None:
        """The checkpoint of this step; None, and a warning, where it could not be written."""
        job, saved = self.job, None
        job.phase("saving", self.step, self.prepared.steps_total)
        job.world.wait()
        if job.world.is_main:
            try:
                saved = self.writer.save(self._about())
            except SAVE_ERRORS as error:
                path, why = str(job.output.checkpoints), model.one_line(error)
                job.warn(Message.of("save_failed", step=self.step, path=path, why=why))
            else:
                pruned = self.writer.prune(self.step, self._best()[0])
                epoch = -(-self.step // self.prepared.per_epoch)
                path, seconds = str(saved.path), round(saved.seconds, 3)
                job.emit(events.Checkpoint(epoch, self.step, path, saved.size, seconds, pruned))
        job.world.wait()
        job.phase("training", self.step, self.prepared.steps_total)
        return saved.path if saved else None

    def _about(self) -> dict[str, Any]:
        job = self.job
        return {
            "run": job.record.run,
            "step": self.step,
            "epoch": self.step // self.prepared.per_epoch,
            "steps_total": self.prepared.steps_total,
            "loss": self.last_loss,
            "world_size": job.world.size,
            "config": to_json(job.config),
            "data": self.prepared.data,
            "versions": versions(),
        }

    def _evaluate(self) -> None:
        """Scores the model on the validation rows, and publishes it where it is the best so far."""
        job, prepared = self.job, self.prepared
        epoch = self.step // prepared.per_epoch
        evaluator = Evaluator(
            prepared.model,
            prepared.head,
            prepared.tokenizer,
            prepared.validation_rows,
            job.world,
            job.config,
            prepared.autocast,
            job.phase,
        )
        try:
            score = evaluator.run()
        except StopAskedError:  # the steps are saved; the evaluation is repeated by whoever resumes
            path = job.output.checkpoint(self.step)
            raise self._stopped(path if path.exists() else None) from None
        tell_score(job, score, epoch, self.step)
        if job.world.is_main:
            self._record(score, epoch)
        self.evaluations = job.world.from_main(self.evaluations)
        model.set_training_mode(prepared.model)
        job.phase("training", self.step, prepared.steps_total)

    def _record(self, score: Score, epoch: int) -> None:
        entry = {"epoch": epoch, "loss": score.loss, "bleu": score.bleu, "signature": score.signature}
        others = {step: other for step, other in self.evaluations.items() if int(step) < self.step}
        best = max((_merit(other) for other in others.values() if other["published"]), default=None)
        published = best is None or _merit(entry) > best
        try:
            if published:
                self.job.phase("publishing")
                checkpoint.publish_best(self.job.output, self.prepared.model, self.prepared.tokenizer)
                bleu, path = f"{score.bleu:.2f}", str(self.job.output.best)
                self.job.notice(Message.of("best_published", bleu=bleu, epoch=epoch, path=path))
            self.evaluations = {**others, str(self.step): {**entry, "published": published}}
            write_json(self.job.output.evaluations, self.evaluations)
        except SAVE_ERRORS as error:
            path, why = str(self.job.output.best), model.one_line(error)
            self.job.warn(Message.of("publish_failed", path=path, why=why))
            self.evaluations = others  # repeated by whoever resumes from here

    def _best(self) -> tuple[int, dict[str, Any]]:
        """Step and entry of the best published evaluation; (-1, {}) where there is none."""
        published = {int(step): entry for step, entry in self.evaluations.items() if entry["published"]}
        if not published:
            return -1, {}
        step = max(published, key=lambda step: _merit(published[step]))
        return step, published[step]

    def _stopped(self, saved: Path | None) -> StopAskedError:
        place = {"step": self.step, "steps_total": self.prepared.steps_total}
        if self.job.world.is_main and saved is None:
            return StopAskedError(Message.of("ended_stopped_unsaved", **place, **self.job.options()))
        return StopAskedError(Message.of("ended_stopped", checkpoint=str(saved), **place, **self.job.options()))

    def _diverged(self, result: StepResult, rows: list[int]) -> DivergedError:
        shown = ", ".join(map(str, rows[:16])) + (", …" if len(rows) > 16 else "")
        loss, norm = str(result.loss), str(result.grad_norm)
        return DivergedError(Message.of("ended_diverged", step=self.step + 1, loss=loss, grad_norm=norm, rows=shown))

    def _finished(self) -> Message:
        job, (_, best) = self.job, self._best()
        loss, path, total = f"{self.last_loss:.4f}", str(job.output.best), self.prepared.steps_total
        if job.world.is_main and best:
            try:
                write_json(job.output.owner_file, _owner(job, self.prepared, finished=True))
            except OSError as error:
                job.warn(Message.of("save_failed", step=self.step, path=path, why=model.one_line(error)))
        if not best:
            raise UnpublishedError(
                Message.of("ended_finished_unpublished", steps_total=total, loss=loss, path=path, **job.options())
            )
        bleu, epoch = f"{best['bleu']:.2f}", best["epoch"]
        return Message.of("ended_finished", steps_total=total, loss=loss, bleu=bleu, epoch=epoch, path=path)


def _merit(entry: dict[str, Any]) -> tuple[float, float]:
    """What makes an evaluation better than another: BLEU, and the loss where BLEU is the same."""
    return float(entry["bleu"]), -float(entry["loss"])


def tell_score(job: Job, score: Score, epoch: int, step: int) -> None:
    """The events of an evaluation: its score, and its first predictions as samples."""
    bleu_rows, seconds = len(score.predictions), round(score.seconds, 3)
    job.emit(events.Eval(epoch, step, score.rows, score.loss, score.bleu, bleu_rows, score.signature, seconds))
    for prediction in score.predictions[: job.config.sample_rows]:
        reference, reply = prediction.reference, prediction.reply
        job.emit(events.Sample(epoch, step, prediction.row, prediction.prompt, reference, reply))


if __name__ == "__main__":
    leave(execute(World(), RunDir(Path(sys.argv[1])), train))
