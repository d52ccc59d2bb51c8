"""What a run reports of an evaluation: its scores, some of its predictions, and the highest BLEU that was possible."""

import math

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.scores import FILE, Measured
from engine.process.job import Job
from engine.training.evaluation import Score

SHOWN = 2000  # characters of each of a sample's texts
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
    """Writes a notice if the labels themselves are far from their texts: a low BLEU is not only the model's fault."""
    if score.predictions and score.bleu_of_labels < LOW_CEILING:
        limit = job.config.max_seq_len
        job.notice(Message.of("bleu_ceiling", bleu=f"{score.bleu_of_labels:.1f}", limit=limit))


def _bounded(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
