"""Runs that are given untrusted files, and what must hold when they end."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils.hub import HF_MODULES_CACHE

from engine.contract import events
from engine.contract.config import override, to_json
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import Listener
from engine.process.attempt import execute
from engine.process.world import World
from engine.training import checkpoint
from engine.training.loop import train
from tests.engine.conftest import Outcome, left_as_found
from tests.faults.invariants import within

LIMIT = 60.0  # seconds until a run has refused a file; it takes a fraction of one
LONGEST = 800  # characters of a refusal: one sentence


@dataclass
class UntrustedRuns:
    """Runs on untrusted files, all in one folder."""

    folder: Path
    settings: dict[str, Any]
    capfd: pytest.CaptureFixture[str] | None = None

    @property
    def canary(self) -> Path:
        """Is there when something was executed."""
        return self.folder / "canary"

    @property
    def output(self) -> OutputDir:
        """The output folder of its runs."""
        return OutputDir(self.folder / "output")

    def run_dir(self, *, resume: bool = False, **settings: Any) -> RunDir:
        """The folder and the record of a run."""
        places = {"output_dir": str(self.output.path), "token_store": str(self.folder / "store")}
        config, overrides = override(preset("sft-small").config, {**self.settings, **places, **settings})
        run_dir = RunDir(self.folder / "log")
        run_dir.path.mkdir(exist_ok=True)
        run_dir.write_record(
            RunRecord("untrusted-1", "sft-small", "train", to_json(config), overrides, resume=resume, fresh=not resume)
        )
        return run_dir

    def train(self, run_dir: RunDir, listener: Listener | None = None) -> Outcome:
        """Trains in this process."""
        torch.set_num_threads(1)  # more of them only wait for each other
        with pytest.MonkeyPatch.context() as patch, left_as_found(), within(LIMIT):
            patch.setenv("ACCELERATE_USE_CPU", "true")
            patch.setattr(
                "engine.process.attempt.write_stacks_on_request", lambda _path: None
            )  # the stacks here are pytest's
            ended = execute(World(), run_dir, train, listener)
        return Outcome(ended, run_dir, self.output)

    def assert_refused(self, named: Path, **settings: Any) -> None:
        """A run with these settings ends as `assert_run_refused` has it."""
        self.assert_run_refused(self.run_dir(**settings), named)

    def assert_run_refused(self, run_dir: RunDir, named: Path) -> None:
        """A run ends with exit code 2 and one sentence that names the path, executes nothing and leaves nothing."""
        before = self.there()
        outcome = self.train(run_dir)
        said = outcome.ended.message.what()
        assert not self.canary.exists(), "code in the file was executed"
        assert (outcome.code, outcome.ended.reason) == (2, "refused"), said
        assert "\n" not in said, said
        assert len(said) < LONGEST, said
        assert str(named) in said
        self._assert_no_traceback(run_dir)
        assert self.there() == before, f"something was left: {sorted(set(self.there()) ^ set(before))[:8]}"

    def assert_skipped(self, name: str, skipped: Sequence[int] = (2,)) -> None:
        """A resume passes these checkpoints over, names the file, and trains from the one before them to the end."""
        run_dir = self.run_dir(resume=True, epochs=1, save_steps=1000)
        outcome = self.train(run_dir)
        assert not self.canary.exists(), "code in the file was executed"
        assert (outcome.code, outcome.ended.reason) == (0, "finished"), outcome.ended.message.what()
        warned = [event.message for event in outcome.all(events.Warning) if event.message.code == "checkpoint_skipped"]
        places = [str(self.output.checkpoint(step)) for step in skipped]
        assert [message.args["checkpoint"] for message in warned] == places
        assert all(name in str(message.args["why"]) and "\n" not in message.what() for message in warned)
        begun = min(event.step for event in outcome.all(events.Step))
        assert begun == min(skipped), f"it went on with step {begun}"
        self._assert_no_traceback(run_dir)
        assert checkpoint.newest_sound(self.output)[1] == []

    def there(self) -> dict[str, str]:
        """Everything in the folder but the run's own log, and the hash of every file."""
        paths = (path for path in self.folder.rglob("*") if self.folder / "log" not in (path, *path.parents))
        return {str(path.relative_to(self.folder)): _hash(path) for path in paths}

    def _assert_no_traceback(self, run_dir: RunDir) -> None:
        shown = "".join(self.capfd.readouterr()) if self.capfd else ""
        assert "Traceback" not in shown + run_dir.events.read_text(encoding="utf-8"), shown


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@contextmanager
def no_code_is_copied() -> Iterator[None]:
    """Proves that transformers did not copy modules from untrusted folders to where it imports them from."""
    before = set(Path(HF_MODULES_CACHE).rglob("*"))
    yield
    assert set(Path(HF_MODULES_CACHE).rglob("*")) == before
