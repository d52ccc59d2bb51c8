"""What a model is called in a chat, and which models belong to a run."""

from pathlib import Path

from engine.contract.outputdir import OutputDir
from engine.contract.rundir import RunDir
from engine.contract.scores import best_of, read_evaluations
from engine.contract.texts import Lang, say
from sft_tui import runs
from sft_tui.replies import model_named, model_of_run
from sft_tui.runs import Run


def model_name(folder: str, lang: Lang) -> str:
    """The name of a model's folder; of a run's best model the run, and the step that it is of."""
    output = OutputDir(Path(folder).parent)
    owner = output.owner()
    if output.best != Path(folder) or not owner.run:
        return Path(folder).name or folder
    step, _ = best_of(read_evaluations(output))
    return say("chat.best_of", lang, run=owner.run, step=step) if step >= 0 else say("chat.best", lang, run=owner.run)


def run_of(folder: str) -> RunDir | None:
    """The run whose best model a folder is; None if it is of none, or the run was deleted."""
    output = OutputDir(Path(folder).parent)
    return RunDir.of(output) if output.best == Path(folder) else None


def chosen(name: str | None, base: str | None, logs: Path) -> tuple[list[str], str]:
    """The models of a chat, and the run that they belong to; raises InputError.

    `name` is a model or a run, the newest one if None; `base` is what to compare it with, if not what its run started
    from.
    """
    model = model_of_run(None, logs) if name is None else model_named(name, logs)
    made = run_of(model)
    run = runs.read_run(made) if made is not None else None
    models = models_of(run) if run is not None else [model]
    if base is not None:
        models = [model_named(base, logs), model]
    return models, run.name if run is not None else ""


def models_of(run: Run) -> list[str]:
    """The folder of the model that a run started from, if it is one, and that of its best; raises InputError."""
    best = str(runs.model_of(run).best)
    base = run.record.run_config().pretrained_model
    return [base, best] if is_model(base) and base != best else [best]


def is_model(folder: str) -> bool:
    """Whether a folder is a model in transformers' format."""
    return bool(folder) and (Path(folder) / "config.json").is_file()
