"""What a model is called in a chat, and which models belong to a run."""

from pathlib import Path

from engine.contract.outputdir import OutputDir
from engine.contract.record import RunRecord
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
    if base is not None:
        models = [model_named(base, logs), model]
    else:
        models = _compared(made.read_record(), model) if made is not None else [model]
    return models, made.path.name if made is not None else ""


def models_of(run: Run) -> list[str]:
    """The folder of the model that a run started from, if it is one, and that of its best; raises InputError."""
    return _compared(run.record, str(runs.model_of(run).best))


def _compared(record: RunRecord, best: str) -> list[str]:
    base = record.run_config().pretrained_model
    return [base, best] if is_model(base) and base != best else [best]


def form_of(folder: str, like: str) -> tuple[str, str]:
    """Chat template and its options for a model: those it learned with, or of the run that another model is of."""
    output, own = OutputDir(Path(like).parent), OutputDir(Path(folder).parent)
    learned = own.settings() if own.best == Path(folder) else {}
    config = learned or (output.settings() if output.best == Path(like) else {})
    options = str(config.get("template_options", ""))
    return "" if learned else str(config.get("chat_template", "")), options


def is_model(folder: str) -> bool:
    """Whether a folder is a model in transformers' format."""
    return bool(folder) and (Path(folder) / "config.json").is_file()
