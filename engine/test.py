"""Score: `python -m engine.test RUN_DIR` evaluates the best model of an output folder on the test file."""

import sys
from pathlib import Path

from engine.contract.config import override
from engine.contract.inputs import require_positions
from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.data.tokenizer import load_tokenizer
from engine.models import loading
from engine.models.loss import find_head
from engine.models.network import network_of, packs
from engine.models.precision import choose_precision
from engine.models.seq2seq.described import positions
from engine.process.job import Job, execute, leave
from engine.process.world import World
from engine.training.evaluation import Evaluator
from engine.training.score_events import emit_ceiling, emit_score


def score(job: Job) -> Message:
    """Runs the whole job; returns its final message. Raises InputError or StopAskedError."""
    config, best = job.config, str(job.output.best)
    job.phase("loading")
    source = job.source("test_file")
    if not job.output.best.is_dir():
        raise InputError("best_missing", path=best)
    job.started([source])
    tokenizer = load_tokenizer(best)
    job.look_into([source], tokenizer)
    own = override(config, {"pretrained_model": best, "tokenizer": best})[0]
    net = loading.load_model(own, tokenizer, packed=packs(job.world.device))
    rows = job.store(source, tokenizer)
    require_positions(str(source.path), config, rows.longest(), positions(net))
    wanted = job.references(source, rows)
    net.to(job.world.device)
    precision, notice = choose_precision(config.mixed_precision, job.world.device)
    job.notice(notice)
    network = network_of(net, find_head(net), config.loss_chunk_tokens, bf16=precision == "bf16")
    evaluator = Evaluator(network, tokenizer, rows, wanted, job.world, config, job.phase)
    result = evaluator.run()
    emit_score(job, result, epoch=0, step=0)
    emit_ceiling(job, result)
    loss, bleu = f"{result.loss:.4f}", f"{result.bleu:.2f} ({result.signature})"
    return Message.of("ended_tested", model=best, rows=result.rows, path=str(source.path), loss=loss, bleu=bleu)


if __name__ == "__main__":
    leave(execute(World(), RunDir(Path(sys.argv[1])), score))
