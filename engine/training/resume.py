"""Resuming: which checkpoint to take, what must not differ, and the proof that training continues as it would have.

The proof is the loss of the step after the checkpoint. It was computed when the checkpoint was saved, from the
weights that were saved, and it is computed again from the weights that were loaded, by the same arithmetic. Steps
that the log holds beyond the checkpoint are compared one by one as they are repeated.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.contract.config import differences_on_resume, from_json
from engine.contract.messages import InputError, Message, Value
from engine.contract.outputdir import refuse_unfinished
from engine.contract.stream import losses_after
from engine.data.fingerprints import file_sha256
from engine.models.network import END_TO_END, PADDED
from engine.process.job import Job, versions
from engine.training import checkpoint
from engine.training.checkpoint import FoundCheckpoint
from engine.training.optim import learning_rate

# How far a repeated loss may be from the logged one if it cannot be the same to the last bit: with other versions
# or threads on the CPU, and on GPUs, whose sums have no fixed order.
TOLERANCE = {"cpu": 1e-5, "other": 1e-3}


def starting_point(job: Job, data: dict[str, str]) -> FoundCheckpoint | None:
    """The checkpoint to resume from, verified by rank 0; raises InputError if it may not be used."""
    record, output = job.record, job.output

    def find() -> FoundCheckpoint | None:
        if not record.resume:
            if not record.fresh:
                refuse_unfinished(output, resume_option=record.resume_option, fresh_option=record.fresh_option)
            return None
        job.phase("verifying")
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


def effective_batch(job: Job, start: FoundCheckpoint | None) -> int:
    """Rows of a step over all ranks: those of the checkpoint whatever the number of ranks, unless a setting changed."""
    now = job.config.effective_batch(job.world.size)
    if start is None:
        return now
    then = start.manifest
    before = from_json(then.config)
    sizes = [(one.batch_size_per_gpu, one.gradient_accumulation_steps) for one in (before, job.config)]
    if sizes[0] != sizes[1]:
        return now
    return then.effective_batch or before.effective_batch(then.world_size or job.world.size)


def other_ranks(job: Job, start: FoundCheckpoint, batch: int) -> Message | None:
    """A message if there are more ranks than before, or fewer; each then has another share of the same rows."""
    ranks = {"before": start.manifest.world_size, "ranks": job.world.size}
    if ranks["before"] in (0, job.world.size):
        return None
    return Message.of("resume_other_ranks", batch=batch, share=f"{batch / job.world.size:g}", **ranks)


def base_model_sha256(path: Path) -> str:
    """The hash of a base model: of its file, or of the weight files of its folder; empty if there is no base model."""
    if path.is_file():
        return file_sha256(path)
    weights = sorted(file for file in path.glob("*") if file.suffix in (".safetensors", ".bin")) if path.name else []
    return "-".join(file_sha256(file)[:16] for file in weights)


def _refuse_differences(job: Job, found: FoundCheckpoint, data: dict[str, str]) -> None:
    then, record = found.manifest, job.record
    differences = differences_on_resume(then.config, job.config)
    base = job.config.pretrained_model
    if base and then.config.get("pretrained_model") != base:
        data = {**data, "pretrained_model": base_model_sha256(Path(base))}
    for name in ("train_file", "tokenizer", "pretrained_model"):
        old, new = then.data.get(name), data.get(name)
        if old and new and old != new:
            differences[f"content of {name}"] = [old[:12], new[:12]]
    before = job.output.owner().config  # of the previous attempt, which may not have saved anything
    agreed = {name for name, (_, new) in differences.items() if name in before and before[name] == new}
    accepted = {name for name in differences if record.force or name in {*record.accepted, *agreed}}
    refused = {name: pair for name, pair in differences.items() if name not in accepted}
    if refused:
        raise InputError("resume_differs", checkpoint=str(found.path), differences=_listed(refused), **job.options())
    if accepted:
        listed = _listed({name: differences[name] for name in differences})
        job.warn(Message.of("resume_accepted", checkpoint=str(found.path), differences=listed))


def _listed(differences: dict[str, list[Any]]) -> str:
    """Old and new values by name, an empty one in quotes as on a command line."""
    shown = {name: ["''" if value == "" else value for value in pair] for name, pair in differences.items()}
    return ", ".join(f"{name} {old} -> {new}" for name, (old, new) in shown.items())


def longer_schedule(job: Job, found: FoundCheckpoint, steps_total: int) -> Message | None:
    """A message if the learning rate continues from another value because the run now has more steps."""
    before = found.manifest.steps_total
    if before in (None, steps_total) or not found.step:
        return None
    last = learning_rate(from_json(found.manifest.config), found.step - 1, before)
    rate = learning_rate(job.config, found.step, steps_total)
    shown = {"last": f"{last:.2g}", "rate": f"{rate:.2g}"}
    if shown["last"] == shown["rate"]:
        return None
    return Message.of(
        "resume_schedule", before=before, steps_total=steps_total, epochs=job.config.epochs, **shown, **job.options()
    )


@dataclass
class Proof:
    """The losses that a resumed run has to repeat, and the results so far."""

    job: Job
    first: int  # the step after the checkpoint
    expected: dict[int, float] = field(default_factory=dict)
    changed: str = ""  # how the environment differs from the one that made the checkpoint
    repeated: int = 0
    same_bits: bool = True
    worst: float = 0.0  # relative difference

    @property
    def last(self) -> int:
        """The last step that must be repeated; 0 if there is none."""
        return max(self.expected, default=0)

    @classmethod
    def of(cls, job: Job, found: FoundCheckpoint, *, drops: bool, layout: str = "") -> "Proof":
        """The steps to repeat after the checkpoint `found`, from its manifest and the log.

        `drops`: whether the model has dropout, which draws other numbers on another number of ranks. `layout` is that
        of the rows now.
        """
        then, now = found.manifest, versions()
        changes = {name: [then.versions.get(name), now[name]] for name in now if then.versions.get(name) != now[name]}
        first, ranks = found.step + 1, [then.world_size, job.world.size]
        other_ranks = ranks[0] not in (0, ranks[1])
        if other_ranks:
            changes["processes"] = [str(number) for number in ranks]
        now_budget = job.config.micro_batch_tokens
        budget = then.config.get("micro_batch_tokens", now_budget)
        if budget != now_budget:  # with other micro-batches dropout draws other numbers
            job.notice(Message.of("resume_other_cut", old=budget, new=now_budget))
            return cls(job, first)
        if (then.layout, layout) == (END_TO_END, PADDED):
            job.notice(Message.of("resume_other_layout"))
            return cls(job, first)
        if other_ranks and drops:
            job.notice(Message.of("resume_other_draws"))
            return cls(job, first)
        planned = job.record.accepted or job.record.force or other_ranks  # whose rounding differs more at each step
        logged = {} if planned else losses_after(job.run_dir.events, found.step)
        expected = {step: loss for step, loss in logged.items() if step > first}
        if then.next_loss is not None:
            expected[first] = then.next_loss
        elif first in logged:
            expected[first] = logged[first]
        if not expected:
            job.notice(Message.of("resume_unproved", step=found.step))
        return cls(job, first, expected, _listed(changes))

    def check(self, step: int, loss: float) -> None:
        """Compares a step's loss before its update is made; raises InputError if the first one differs."""
        logged = self.expected.pop(step, None)
        if logged is None:
            return
        self.repeated += 1
        self.same_bits = self.same_bits and loss == logged
        difference = abs(loss - logged) / max(abs(logged), 1e-12)
        self.worst = max(self.worst, difference)
        tolerance = TOLERANCE["cpu" if self.job.world.device.type == "cpu" else "other"]
        if loss != logged and not difference <= tolerance:  # NaN counts as too large
            self._refuse(step, loss, logged)
        elif step == self.first:
            self._say("resume_proved", "resume_proved_within", step, loss=f"{loss:.4f}")
        elif not self.expected:
            self._say("resume_repeated", "resume_repeated_within", step, steps=self.repeated)

    def _refuse(self, step: int, loss: float, logged: float) -> None:
        args: dict[str, Value] = {
            "step": step,
            "loss": repr(loss),
            "logged": repr(logged),
            "changed": self.changed or "-",
        }
        if step == self.first and not self.job.record.force:
            raise InputError("resume_disproved", **args, **self.job.options())
        self.job.warn(Message.of("resume_drift", **args))
        self.expected.clear()  # later ones cannot be right either

    def _say(self, same: str, near: str, step: int, **more: str | int) -> None:
        if self.same_bits:
            self.job.notice(Message.of(same, step=step, first=self.first, **more))
            return
        why = self.changed or self.job.world.device.type
        self.job.notice(Message.of(near, step=step, first=self.first, worst=f"{self.worst:.1e}", why=why, **more))
