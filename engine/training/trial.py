"""A rehearsal does once what a run does many times, and reports its cost.

The same inputs, model, optimizer and step as in training: the longest micro-batches forward and backward, an update, a
checkpoint written, read back and compared, the longest batch of replies, then timed steps. Micro-batch budgets
are tried from small to large, because a peak of memory only ever rises. A GPU needs large micro-batches to be busy: on
one, budgets above the requested one are tried too, as far as its free memory allows.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from engine.contract import events
from engine.contract.messages import InputError, Message
from engine.contract.untrusted import one_line
from engine.data import batching
from engine.data.batching import Partition
from engine.models import freezing
from engine.process.device_errors import out_of_memory
from engine.process.job import Job, peak_memory
from engine.training import checkpoint, loop, optim
from engine.training.checkpoint import FoundCheckpoint
from engine.training.gpu_memory import GpuMemory
from engine.training.setup import prepare
from engine.training.sharded_checkpoint import first_difference
from engine.training.step import StepRunner, backward
from engine.training.tensorfile import stored

SHARES = (8, 4, 2, 1)  # divisors of the requested budget: an eighth of it comes first
SMALLEST_BUDGET, LARGEST_BUDGET = 64, 32_768  # tokens; the largest that is tried without being asked for
# A run peaks slightly above its rehearsal: some lengths come only later, and allocators do not return all memory.
MARGIN = 1.05
TIMED_STEPS, TIMED_SECONDS = 8, 15.0


def rehearse(job: Job) -> Message:
    """Runs the whole job; returns its final message. Raises InputError, StopAskedError or DivergedError."""
    if job.world.is_main:
        job.output.path.mkdir(parents=True, exist_ok=True)
    return Trial(loop.begin(job, prepare(job))).run()


@dataclass
class Trial:
    """A training that ends before it has begun, and the measurements made of it."""

    training: loop.Training
    peaks: list[int] = field(default_factory=list)  # of memory over all ranks together, one per budget
    gpu: GpuMemory = field(init=False)  # of this rank

    def __post_init__(self) -> None:
        self.gpu = GpuMemory(self.training.job.world.device)

    def run(self) -> Message:
        """Does everything once."""
        job, config, budgets = self.job, self.job.config, self._budgets()
        stages = len(budgets) + 4
        job.phase("rehearsing", 0, stages)
        freezing.set_training_mode(self.training.prepared.model)
        self._try(budgets[0])
        self._update(budgets[0])
        job.phase("rehearsing", 1, stages)
        size, seconds_save = self._save_and_compare(budgets[0])
        job.phase("rehearsing", 2, stages)
        seconds_evaluation = self._evaluate_once(budgets[0])
        job.phase("rehearsing", 3, stages)
        self.peaks.append(self._peak())
        self._require_room(budgets[0])
        found = budgets[0]
        for number, budget in enumerate(budgets[1:]):
            if not self._differs(budget, found) or not self._may_fit() or not self._try(budget):
                break
            self.peaks.append(self._peak())
            if not self._fits(self.peaks[-1]) or not self._gpus_fit():
                break
            self.gpu.keep()
            found = budget
            job.phase("rehearsing", 4 + number, stages)
        self.gpu.begin()
        seconds_step, timed = self._time_steps(found)
        job.phase("rehearsing", stages, stages)
        peaks = job.world.gather([peak_memory()])
        job.emit(
            events.Rehearsed(
                micro_batch_tokens=found,
                micro_batch_tokens_asked=config.micro_batch_tokens,
                memory_limit=job.record.memory_limit,
                peak_memory=peaks,
                peak_memory_found=int(self.peaks[budgets.index(found)]),
                gpu_memory=job.world.gather([self.gpu.keep()]),
                steps_timed=timed,
                seconds_step=seconds_step,
                seconds_evaluation=seconds_evaluation,
                seconds_save=seconds_save,
                checkpoint_bytes=size,
            )
        )
        return Message.of("ended_rehearsed", budget=found)

    def _budgets(self) -> list[int]:
        """The budgets to try: parts of the one that is asked for, itself, and on a GPU multiples of it."""
        asked = self.job.config.micro_batch_tokens
        found = [asked] if asked < SMALLEST_BUDGET else sorted({max(SMALLEST_BUDGET, asked // one) for one in SHARES})
        while self.gpu.known and 2 * found[-1] <= LARGEST_BUDGET:
            found.append(2 * found[-1])
        return found

    def _differs(self, budget: int, before: int) -> bool:
        """Whether a budget above the requested one has larger micro-batches than the one before it."""
        if budget <= self.job.config.micro_batch_tokens:
            return True
        return not self.job.world.everyone(self._largest(budget) == self._largest(before))

    @property
    def job(self) -> Job:
        """The job of the training."""
        return self.training.job

    def _runner(self, budget: int) -> StepRunner:
        return replace(self.training.runner(), micro_batch_tokens=budget)

    def _try(self, budget: int) -> bool:
        """Forward and backward of the longest micro-batches of the run; returns whether no rank ran out of memory."""
        runner = self._runner(budget)
        self.gpu.begin()
        runner.network.begin_step()  # as a step does, which drops what an evaluation laid out
        with runner.casting():
            short = any(self._is_short(runner, samples) for samples in self._largest(budget))
        self.training.optimizer.zero_grad(set_to_none=True)
        if any(self.job.world.gather([short])):
            if len(self.peaks) == 0:
                raise InputError("rehearsal_out_of_memory", budget=budget)
            return False
        return True

    def _is_short(self, runner: StepRunner, samples: list[int]) -> bool:
        """Forward and backward of a micro-batch; returns whether memory ran out, of a divided model on any rank."""
        shards, short = self.training.prepared.shards, False
        if shards is not None:
            shards.begin_pass()
        try:
            backward(runner.micro_batch_loss(samples, self._label_tokens(samples)))
        except Exception as error:
            if not out_of_memory(error) or not (shards is None or shards.catches_up):
                raise
            short = True
        self.job.world.rank_status.mark()
        if shards is None:
            return short
        if short:  # the others wait for it in the same pass
            shards.catch_up(lambda: backward(runner.micro_batch_loss([self._shortest()], 1)))
        shards.drop_gradients()
        return any(self.job.world.gather([short]))

    def _shortest(self) -> int:
        store = self.training.prepared.train_rows
        return int(store.lengths(range(len(store))).total.argmin())

    def _largest(self, budget: int) -> list[list[int]]:
        config, world, prepared = self.job.config, self.job.world, self.training.prepared
        store = prepared.train_rows
        lengths = store.lengths(range(len(store)))
        measure = prepared.network.measure
        cut = Partition(prepared.effective_batch, world.size, budget, measure)
        return batching.largest_micro_batches(lengths, cut, config.seed, config.epochs)

    def _label_tokens(self, samples: list[int]) -> int:
        return int(self.training.prepared.train_rows.lengths(samples).label.sum())

    def _update(self, budget: int) -> None:
        """Makes the first step of the run."""
        self.training.one_step(self._runner(budget), self.training.samples()(0))

    def _save_and_compare(self, budget: int) -> tuple[int, float]:
        """Size (bytes) and time (seconds) of a checkpoint; raises InputError if it is not what was saved."""
        training, job = self.training, self.job
        runner, samples = self._runner(budget), training.samples()
        began = time.perf_counter()
        ahead = (lambda: training.loss_ahead(runner, samples)) if training.prepared.steps_total > 1 else None
        path = training.save(ahead)
        seconds = time.perf_counter() - began
        divided, world = training.prepared.shards is not None, job.world
        found = world.from_main(world.together(lambda: self._verified(path), chosen=world.is_main))
        size = world.together(lambda: self._compare(found), chosen=world.is_main or divided)
        return world.from_main(size), seconds

    def _verified(self, path: Path | None) -> FoundCheckpoint:
        if path is None:
            raise InputError("rehearsal_unsaved", path=str(self.job.output.checkpoints))
        try:
            return FoundCheckpoint(path, checkpoint.verify(path))
        except (OSError, ValueError) as error:
            raise InputError("rehearsal_checkpoint", path=str(path), why=one_line(error)) from None

    def _compare(self, found: FoundCheckpoint) -> int:
        """The size of a checkpoint in bytes; all ranks of a divided model call it together; raises InputError."""
        training, path = self.training, found.path
        shards = training.prepared.shards
        if shards is not None:
            name = first_difference(shards, training.optimizer, found)
            if name:
                raise InputError("rehearsal_checkpoint", path=str(path), why=f"{name} is not what was saved")
            return sum(entry.stat().st_size for entry in path.iterdir())
        trained = freezing.trained_parameters(training.prepared.model)
        names = {id(parameter): name for name, parameter in trained.items()}
        held = {
            **{name: tensor.detach() for name, tensor in trained.items()},
            **optim.state_tensors(training.optimizer, names),
        }
        # One at a time: all of them, mapped, would be the rehearsal's peak, and no run holds them.
        files = {**stored(found.path / checkpoint.WEIGHTS), **stored(found.path / checkpoint.OPTIMIZER)}
        for name, tensor in held.items():
            if name not in files or not torch.equal(tensor.cpu(), files[name].read()):
                raise InputError("rehearsal_checkpoint", path=str(path), why=f"{name} is not what was saved")
        return sum(entry.stat().st_size for entry in path.iterdir())

    def _evaluate_once(self, budget: int) -> list[float]:
        """Seconds of an evaluation, expected, minimum and maximum, from its longest batches of either kind.

        Losses scale with padded tokens. A batch of replies runs until the last of them ends: minimum at the mean length
        of a response, maximum at the longest length allowed, and expected at the longest response of each batch.
        """
        job, prepared = self.job, self.training.prepared
        evaluator = replace(self.training.evaluator(), config=replace(job.config, micro_batch_tokens=budget))
        prepared.model.eval()
        lengths = evaluator.lengths(evaluator.rows)
        losses, replies = evaluator.loss_batches(), evaluator.reply_batches()
        began = time.perf_counter()
        evaluator.row_losses(losses[0])
        sizes = [batching.size_of(batch, lengths, evaluator.network.measure) for batch in losses]
        loss = (time.perf_counter() - began) / sizes[0] * sum(sizes)
        job.world.rank_status.mark()
        began = time.perf_counter()
        written = max(map(len, evaluator.replies(replies[0])), default=1)
        for_step = (time.perf_counter() - began) / max(1, written)
        freezing.set_training_mode(prepared.model)
        longest = [min(evaluator.longest_reply, int(lengths.label[batch].max())) for batch in replies]
        mean = min(evaluator.longest_reply, float(lengths.label.mean()))
        steps = (sum(longest), mean * len(replies), evaluator.longest_reply * len(replies))
        world = job.world
        return [world.from_main(round((loss + for_step * count) / world.size, 6)) for count in steps]

    def _time_steps(self, budget: int) -> tuple[list[float], int]:
        """Seconds of a step of mean length, expected, fastest and slowest, and how many steps were timed."""
        training = self.training
        runner, samples = self._runner(budget), training.samples()
        paces: list[tuple[float, int]] = []
        began = time.monotonic()
        while training.step < training.prepared.steps_total and len(paces) <= TIMED_STEPS:
            at = time.perf_counter()
            chosen = samples(training.step)
            training.one_step(runner, chosen)
            paces.append((time.perf_counter() - at, self._tokens([int(sample) for sample in chosen])))
            if self.job.world.from_main(time.monotonic() - began > TIMED_SECONDS):
                break
        paces = paces[1:] or paces  # the first step of a budget finds caches empty
        if not paces:  # a run of one step, which is already done
            return [0.0, 0.0, 0.0], 0
        mean = self._mean_tokens()
        expected = sum(seconds for seconds, _ in paces) / sum(tokens for _, tokens in paces)
        each = [seconds / tokens for seconds, tokens in paces]
        found = [round(pace * mean, 6) for pace in (expected, min(each), max(each))]
        return self.job.world.from_main(found), len(paces)

    def _tokens(self, samples: Sequence[int]) -> int:
        store = self.training.prepared.train_rows
        return int(store.lengths(samples).total.sum())

    def _mean_tokens(self) -> float:
        prepared = self.training.prepared
        rows, trained = len(prepared.train_rows), prepared.selection.count
        return self._tokens(range(rows)) * (trained / rows) / prepared.per_epoch

    def _peak(self) -> int:
        return sum(self.job.world.gather([peak_memory()]))

    def _fits(self, peak: float) -> bool:
        limit = self.job.record.memory_limit
        return not limit or peak * MARGIN <= limit

    def _require_room(self, budget: int) -> None:
        if not self._fits(self.peaks[0]):
            need, limit = self.peaks[0] * MARGIN, self.job.record.memory_limit
            sizes = {"need": f"{need / 1e9:.2f} GB", "limit": f"{limit / 1e9:.2f} GB"}
            raise InputError("rehearsal_short", budget=budget, **sizes)
        if not self._gpus_fit():
            raise InputError("rehearsal_out_of_memory", budget=budget)
        self.gpu.keep()

    def _gpus_fit(self) -> bool:
        return all(self.job.world.gather([self.gpu.fits()]))

    def _may_fit(self) -> bool:
        """Whether the next budget, twice the last, can fit: activations grow at most in proportion to the budget."""
        if len(self.peaks) < 2:
            return True
        return self._fits(self.peaks[-1] + 2 * (self.peaks[-1] - self.peaks[-2]))
