"""What is known of a run apart from its record and its stream: small files around it, read again now and then."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from engine.contract.bounds import Name
from engine.contract.durable import read_json_as
from engine.contract.messages import Message
from engine.contract.outputdir import OutputDir
from engine.contract.processes import AttemptProcesses, read_processes
from sft_tui import judging, notes, starting
from sft_tui.judging import Tally
from sft_tui.notes import Note
from sft_tui.runs import Run


@dataclass(frozen=True)
class _ModelConfig:
    """The kind of a model, in the config.json of its folder."""

    model_type: Name = ""


@dataclass(frozen=True)
class RunFacts:
    """The note about a run, its processes, what its model is, and what else its own files do not say."""

    note: Note = field(default_factory=Note)
    processes: AttemptProcesses = field(default_factory=AttemptProcesses)
    model_type: str = ""  # as the model's config.json names it
    began_from: str = ""  # the run whose best model it started from
    judged: Tally | None = None  # the user's blind judgements of the run's replies
    why_not_resumable: Message | None = None


def read(run: Run) -> RunFacts:
    """The facts about a run; what cannot be read is left empty."""
    run_dir, record = run.run_dir, run.record
    output = run.output or record.output.of_run(run.name, record.id)
    base = Path(str(record.config.get("pretrained_model", "")))
    best = (output or record.output).best
    return RunFacts(
        note=notes.read(run_dir),
        processes=read_processes(run_dir),
        model_type=_type_of(best) or (_type_of(base) if base.name else ""),
        began_from=OutputDir(base.parent).owner().run if base.name == best.name else "",
        judged=judging.summary(run_dir.blind),
        why_not_resumable=starting.why_not_resumable(run),
    )


def _type_of(folder: Path) -> str:
    """The kind of the model in a folder; its config.json may be a link into the cache of a hub."""
    return read_json_as(_ModelConfig, Path(os.path.realpath(folder / "config.json"))).model_type
