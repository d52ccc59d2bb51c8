"""What to do next with what lies in a folder, as a pure function: the one next step first."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sft_tui.found import DataSet, Found, ModelPlace, RunHere
from sft_tui.options import options

Kind = Literal["demo", "import", "model", "learn", "watch", "resume", "talk", "test", "data", "queue", "launch"]
MOST_IMPORTS, MOST_MODELS = 3, 3  # that are offered


@dataclass(frozen=True)
class Step:
    """A step about a file, the folder of a model or a run, its `subject`; `files` are those of the data set."""

    kind: Kind
    subject: str = ""
    files: dict[str, str] = field(default_factory=dict)  # by setting
    run: RunHere | None = None
    preset: str = "chat-lora"  # that trains a model of its family

    @property
    def command(self) -> str:
        """The command that does it, as a shell command line."""
        return shlex.join(("sft-tui", *self._words()))

    def _words(self) -> tuple[str, ...]:
        from sft_tui.preflight.fix import as_path  # which the first screen does without
        from sft_tui.preflight.missing import STARTER

        path = as_path(self.subject)
        match self.kind:
            case "import":
                return ("data", "import", path)
            case "data":
                return ("data", "import", "FILE")
            case "model":
                return ("model", "get", STARTER)
            case "learn":
                return ("run", self.preset, *options(values_of(self.subject, self.files, self.preset)))
            case "talk":
                return ("reply", "--run", path)
            case "test":
                return ("test", "--run", path)
            case "watch":
                return ("attach", path)
            case "resume":
                return ("resume", path)
            case "demo" | "queue":
                return (self.kind,)
        return ()


def values_of(model: str, files: dict[str, str], name: str) -> dict[str, Any]:
    """The settings over those of a preset for a run that trains a model on files."""
    from engine.contract.presets import preset

    usual = preset(name).config
    wanted = {**files, "pretrained_model": model}
    return {setting: value for setting, value in wanted.items() if value and value != getattr(usual, setting)}


def next_steps(found: Found) -> list[Step]:
    """The steps that make sense now, the one next step first; never empty."""
    steps = [*_of_runs(found, "running", "watch"), *_to_resume(found), *_of_work(found)]
    if found.demo.stage in ("first", "between") and not any(step.kind in ("watch", "demo") for step in steps):
        steps.insert(0, Step("demo"))
    elif not found.runs and found.demo.stage == "new":
        steps.append(Step("demo"))
    return [*steps, *([Step("queue")] if found.queue is not None else []), Step("launch")]


def _of_work(found: Found) -> list[Step]:
    """Steps from data over a model to a run, and what follows one."""
    sets, sources = found.sets(), found.sources()
    newest = sets[0] if sets else None
    fresh = [one for one in sources if newest is None or one.changed > newest.train.changed]
    imports = [Step("import", one.path) for one in (*fresh, *(one for one in sources if one not in fresh))]
    first, later = imports[: len(fresh)][:MOST_IMPORTS], imports[len(fresh) :]
    done = list(_after(found))
    if newest is None:
        if first or done:
            return [*first, *done]
        return [Step("data")] if found.models else []
    train = [*_learning(found, newest), Step("model", files=newest.files)]
    trained = bool(done) and done[0].run is not None and done[0].run.written > newest.train.changed
    work = [*done, *train] if trained else [*train, *done]
    return [*first, *work, *later[:MOST_IMPORTS]]


def _learning(found: Found, data: DataSet) -> Iterator[Step]:
    """Training with each model that was made elsewhere; runs' own best models only without such."""
    usable = [model for model in found.models if model.glance is not None and model.kind != "gguf"]
    bases = [model for model in usable if model.kind == "base"] or usable
    for model in sorted(bases, key=_newness)[:MOST_MODELS]:
        causal = model.glance is not None and model.glance.kind == "causal"
        yield Step("learn", model.path, data.files, preset="chat-lora" if causal else "sft-small")


def _newness(model: ModelPlace) -> int:
    return -model.changed


def _after(found: Found) -> Iterator[Step]:
    """What follows a finished run: talking to its model, and its test."""
    run = next((one for one in found.runs if one.state == "finished" and one.model), None)
    if run is not None:
        yield Step("talk", run.name, run=run)
        if run.preset not in _of_demos():
            yield Step("test", run.name, run=run)


def _of_demos() -> set[str]:
    """The presets of the demos."""
    from sft_tui import demo

    return {name for story in demo.STORIES.values() for name in story.presets}


def _of_runs(found: Found, state: str, kind: Kind) -> Iterator[Step]:
    for run in found.runs:
        if run.state == state:
            yield Step(kind, run.name, run=run)


def _to_resume(found: Found) -> Iterator[Step]:
    """The newest unfinished run; that of a demo is continued by the demo."""
    for step in _of_runs(found, "unfinished", "resume"):
        yield Step("demo", run=step.run) if step.run is not None and step.run.preset in _of_demos() else step
        return
