"""Score: `python -m engine.test RUN_DIR` evaluates the best model of an output folder on the test file."""

import sys
from pathlib import Path

from engine.contract.config import override
from engine.contract.inputs import require_positions
from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.contract.scores import decisive, score_phrases
from engine.data.parquet_rows import RowSource
from engine.models import loading
from engine.models.network import packs
from engine.models.on_device import on_device
from engine.models.registry import family_for, family_of
from engine.process.attempt import execute, leave
from engine.process.job import Job
from engine.process.joining import joined
from engine.training.evaluation import Evaluator
from engine.training.score_events import emit_ceiling, emit_score, eval_event


def score(job: Job) -> Message:
    """Runs the whole job; returns its final message. Raises InputError or StopAskedError."""
    config, best = job.config, str(job.output.best)
    job.phase("loading")
    own = override(config, {"pretrained_model": best, "tokenizer": best, "chat_template": ""})[0]
    source = RowSource.of(own, "test_file", family_for(own).rows)
    if not job.output.best.is_dir():
        raise InputError("best_missing", path=best)
    job.started([source])
    tokenizer = loading.load_tokenizer_of(own)
    job.look_into([source], tokenizer)
    net = loading.load_model(own, tokenizer, packed=packs(job.world.device))
    rows = job.store(source, tokenizer)
    require_positions(str(source.path), config, rows.longest(), family_of(net).positions(net))
    wanted = job.references(source, rows)
    ready = on_device(net, config, job.world.device, job.world.everyone)
    job.notice(ready.fallback)
    evaluator = Evaluator(ready.network, tokenizer, rows, wanted, job.world, config, job.phase)
    result = evaluator.run()
    found = eval_event(result, 0, 0, decisive(config.best_by, family_of(net).rows))
    emit_score(job, result, found)
    emit_ceiling(job, result)
    path, scores = str(source.path), score_phrases(found)
    return Message.of("ended_tested", model=best, rows=result.rows, path=path, scores=scores)


if __name__ == "__main__":
    run_dir = RunDir(Path(sys.argv[1]))
    leave(execute(joined(run_dir), run_dir, score))
