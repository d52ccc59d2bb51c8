"""What a run reports of an evaluation: its scores, some of its predictions, and the highest BLEU that was possible."""

import contextlib
import math

from engine.contract import events
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import ADAPTER
from engine.contract.scores import FILE, Evaluation, Measured, MergeLosses
from engine.contract.stream import first_evaluation
from engine.contract.texts import Phrase
from engine.process.job import Job
from engine.training.best_choice import worse_than_start
from engine.training.epoch_losses import Rise
from engine.training.evaluation import Score
from engine.training.metrics import corpus_bleu

SHOWN = 2000  # characters of each of a sample's texts
MERGE_TOLERATED = 0.01  # of the loss, by which merging may raise it without a warning
LOW_CEILING = 90.0  # BLEU of the labels themselves, below which a notice is written


def eval_event(score: Score, epoch: int, step: int, best_by: str) -> events.Eval:
    """The event of an evaluation."""
    others = dict(score.measures)
    bleu = others.pop("bleu", Measured(math.nan, ""))
    rows, seconds = len(score.predictions), round(score.seconds, 3)
    scores = (score.rows, score.loss, bleu.value, rows, bleu.signature)
    return events.Eval(epoch, step, *scores, seconds, FILE, others, best_by)


def emit_score(job: Job, score: Score, found: events.Eval) -> None:
    """Writes the events of an evaluation: its scores, and its first predictions as samples with truncated texts."""
    job.emit(found)
    epoch, step = found.epoch, found.step
    for prediction in score.predictions[: job.config.sample_rows]:
        texts = (prediction.prompt, prediction.reference, prediction.reply)
        job.emit(events.Sample(epoch, step, prediction.row, *map(_bounded, texts)))


def emit_ceiling(job: Job, score: Score) -> None:
    """Writes a notice if the labels themselves are far from their texts: a low BLEU is not only the model's fault.

    Texts of fewer than four words are far from themselves.
    """
    if score.predictions and score.bleu_of_labels < LOW_CEILING:
        references, limit = [one.reference for one in score.predictions], job.config.max_seq_len
        perfect = corpus_bleu(references, references).value
        if perfect < LOW_CEILING:
            job.notice(Message.of("bleu_short", bleu=f"{perfect:.1f}"))
            return
        job.notice(Message.of("bleu_ceiling", bleu=f"{score.bleu_of_labels:.1f}", limit=limit))


def _bounded(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def report_merge(job: Job, found: MergeLosses, kind: str) -> None:
    """Reports what merging an adapter into weights of the dtype `kind` changed: a warning if that is much."""
    code = "lora_merge_costs" if found.change > MERGE_TOLERATED else "lora_merged"
    losses = {
        "adapter": f"{found.adapter:.4f}",
        "merged": f"{found.merged:.4f}",
        "change": f"{round(found.change, 4) or 0:+.2%}",
    }
    message = Message.of(code, rows=found.rows, path=str(job.output.best / ADAPTER), kind=kind, **losses)
    (job.warn if code == "lora_merge_costs" else job.notice)(message)


def warn_if_start_was_better(job: Job, best: Evaluation) -> None:
    """Warns if the model that the run started from, where that was evaluated, was better than its best one."""
    shown = {"path": str(job.output.best), "rate": f"{job.config.peak_learn_rate():g}"}
    with contextlib.suppress(InputError):  # the stream cannot be read
        worse = worse_than_start(best, first_evaluation(job.run_dir.events), **shown)
        if worse is not None:
            job.warn(worse)


def warn_if_loss_rose(job: Job, rise: Rise | None, epoch: int) -> None:
    """Warns if the loss of a finished epoch is above that of the previous one."""
    if rise is None:
        return
    shown = {
        "loss": f"{rise.loss:.4f}",
        "before": f"{rise.before:.4f}",
        "rate": f"{job.config.peak_learn_rate():g}",
    }
    since = Phrase.of("since.epoch", epoch=rise.since) if rise.since else Phrase("since.first_step")
    job.warn(Message.of("loss_rose", epoch=epoch, since=since, **shown))
