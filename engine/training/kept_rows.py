"""The losses of rows that a training keeps for people to look at, a by-product of its steps."""

from dataclasses import dataclass

from engine.contract.messages import Message
from engine.contract.row_losses import RowLoss, RowLossFile, StepRows, continued
from engine.data.token_store import TokenStore
from engine.process.job import Job
from engine.training.step import StepResult


@dataclass
class KeptRows:
    """The rows of the newest steps and of spikes, in the file of this rank."""

    job: Job
    store: TokenStore
    per_epoch: int
    file: RowLossFile
    warned: bool = False

    @classmethod
    def of(cls, job: Job, store: TokenStore, per_epoch: int) -> "KeptRows":
        """Those of a run that continues after the steps that are done."""
        world = job.world
        return cls(job, store, per_epoch, continued(job.run_dir, world.rank, world.size, job.step))

    def add(self, result: StepResult) -> None:
        """Keeps the rows of the step that was just computed; a disk that cannot be written is warned of once."""
        number = self.store.row_number
        rows = (RowLoss(number(sample), sample, tokens, loss) for sample, tokens, loss in result.rows)
        step, ranks = self.job.step + 1, self.job.world.size
        epoch = 1 + self.job.step // self.per_epoch
        self.file.add(StepRows(step, epoch, result.loss, result.label_tokens, ranks, rows=tuple(rows)))
        if self.file.why and not self.warned:
            self.warned = True
            self.job.warn(Message.of("rows_unkept", path=str(self.file.path), why=self.file.why))
