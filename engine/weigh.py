"""Weigh: `python -m engine.weigh` answers how rows of a run's data begin, and the loss of each of their tokens.

Requests are lines of JSON on standard input, answered as `engine.inspect` answers. The model is loaded when the first
row is weighed, and kept; beginnings need none. A training may run at the same time, so this process has a low priority,
and is the first to be ended if memory runs out.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path

import transformers

from engine.contract import config as settings
from engine.contract.bounds import as_json
from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.requests import BeginningsRequest, Request, WeighRequest, read_task
from engine.contract.weighed import Beginnings, WeighedRow
from engine.inspecting.answer_lines import repeat, send
from engine.process.heartbeat import end_with
from engine.weighing.trained_rows import TrainedRows
from engine.weighing.weights import Weights, known_by

NICENESS = 10
FIRST_TO_END = "1000"  # of what Linux ends if memory runs out


class Weigher:
    """What is loaded so far, for one run."""

    def __init__(self) -> None:
        self._rows: TrainedRows | None = None
        self._weights: Weights | None = None

    def answer(self, request: Request) -> object:
        """The answer to a request; raises InputError."""
        if not isinstance(request, BeginningsRequest | WeighRequest):
            raise TypeError(f"nobody answers {request.task}")
        output = OutputDir(Path(request.output)) if request.output else None
        config = known_by(settings.from_json(request.config), output)
        rows = self._rows = self._rows or TrainedRows.of(config)
        if isinstance(request, BeginningsRequest):
            return Beginnings(tuple(map(rows.beginning, request.rows)))
        row = rows.row(request.row)
        weights = self._weights = self._weights or self._loaded(config, rows, output)
        spans = tuple((int(start), int(end)) for start, end in row.spans)
        losses = tuple(weights.losses(row))
        return WeighedRow(request.row.sample, rows.texts(row), spans, losses, weights.origin, weights.step)

    def _loaded(self, config: RunConfig, rows: TrainedRows, output: OutputDir | None) -> Weights:
        over = threading.Event()
        threading.Thread(target=repeat, args=("pretrained_model", over), daemon=True).start()
        try:
            return Weights.of(config, rows.tokenizer, output)
        finally:
            over.set()


def step_back() -> None:
    """Lets a training that runs at the same time go first."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_END)


def main() -> int:
    """Answers requests, one to a line of standard input; 2 if one cannot be answered because of its input."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    code, weigher = 0, Weigher()
    for number, (asker, request) in enumerate(map(read_task, sys.stdin.buffer)):
        if not number:
            end_with(asker)
            step_back()
        try:
            send(facts=as_json(weigher.answer(request)))
        except InputError as error:
            send(error=as_json(error.message))
            code = error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
