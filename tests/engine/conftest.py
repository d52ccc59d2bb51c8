"""Runs of the engine, in this process or in processes of their own, and what they left behind."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

from engine.contract import events
from engine.contract.config import RunConfig, override, to_json
from engine.contract.events import Event, Record
from engine.contract.locks import LOCK_NAME, FolderLock
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, Listener
from engine.cpu import native
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store
from engine.data.tokenizer import load_tokenizer
from engine.process.attempt import execute
from engine.process.world import World
from engine.training.loop import train
from tests import signal_handlers
from tests.engine.models.causal.exact import SLIDING
from tests.engine.models.causal.small import chatty
from tests.engine.models.small import micro_batch
from tests.engine.training.sharded import run_on
from tests.processes import Result, run
from tests.required import required

E = TypeVar("E", bound=Event)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A run that ended, and what it wrote."""

    code: int
    run_dir: RunDir
    output: OutputDir

    def all(self, kind: type[E]) -> list[E]:
        """The events of one kind, from all attempts."""
        return [record.event for record in EventReader(self.run_dir.events).poll() if isinstance(record.event, kind)]

    @property
    def ended(self) -> events.RunEnded:
        """The only `run_ended` of the last attempt."""
        records = reported(self.run_dir)
        attempt = max(record.envelope.attempt for record in records)
        last = [record.event for record in records if record.envelope.attempt == attempt]
        (end,) = [event for event in last if isinstance(event, events.RunEnded)]
        assert last[-1] is end
        return end

    def codes(self, kind: type[events.Notice] | type[events.Warning]) -> list[str]:
        """The codes of all notices or warnings."""
        return [event.message.code for event in self.all(kind)]


def reported(run_dir: RunDir) -> list[Record]:
    """What a run tells, but for its heartbeats, which come when they come."""
    return [r for r in EventReader(run_dir.events).poll() if not isinstance(r.event, events.Heartbeat)]


def everything_in(folder: Path) -> list[Path]:
    """All files and folders below a folder, in order."""
    return sorted(folder.rglob("*"))


def ask_to_stop(folder: Path, after: type[Event], number: int = 1) -> Callable[[Record], None]:
    """A listener that makes the stop file of the run in `folder` at the given event of a kind."""
    seen = [0]

    def listener(record: Record) -> None:
        seen[0] += isinstance(record.event, after)
        if seen[0] == number:
            RunDir(folder / "log").request_stop()

    return listener


Runner = Callable[..., Outcome]


@pytest.fixture(scope="package", autouse=True)
def one_thread_on_the_cpu() -> Iterator[None]:
    """With GPUs too: what is compared here bit by bit is promised for the CPU. Threads only slow it down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def no_stacks_of_the_tests_own_process() -> Iterator[None]:
    """Runs in this process leave its faulthandler to pytest; a rank has one attempt to a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.process.attempt.write_stacks_on_request", lambda _path: None)
        yield


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]) -> Callable[..., RunDir]:
    """Makes the folder and the record of a run; settings in addition to those of `tiny_settings` come by name."""

    def make(*, folder: Path | None = None, **settings: Any) -> RunDir:
        names = ("resume", "fresh", "force", "accepted", "processes", "job", "memory_limit")
        record = {name: settings.pop(name) for name in names if name in settings}
        folder = folder or tmp_path_factory.mktemp("run")
        output = {"output_dir": str(folder / "output")}
        config, overrides = override(preset("sft-small").config, {**output, **tiny_settings, **settings})
        run_dir = RunDir(folder / "log")
        run_dir.path.mkdir(exist_ok=True)
        run_dir.write_record(
            RunRecord(
                run=folder.name,
                preset="sft-small",
                config=to_json(config),
                overrides=overrides,
                resume_option="--resume",
                fresh_option="--fresh",
                elsewhere="accelerate launch --cpu",
                **{"job": "train", **record},
            )
        )
        return run_dir

    return make


@pytest.fixture(scope="session")
def run_here(make_run: Callable[..., RunDir]) -> Runner:
    """Trains in this process: `run_here(listener=..., work=..., **settings)`."""

    def run_job(*, listener: Listener | None = None, work: Callable[..., Any] = train, **settings: Any) -> Outcome:
        run_dir = make_run(**settings)
        with left_as_found():
            code = execute(World(), run_dir, work, listener)
        return outcome_of(run_dir, code)

    return run_job


def outcome_of(run_dir: RunDir, code: int) -> Outcome:
    """What a run in `run_dir` that ended with `code` left behind."""
    return Outcome(code, run_dir, OutputDir(Path(run_dir.read_record().config["output_dir"])))


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Puts signal handlers back, and gives back locks, which are otherwise held until the process ends."""
    taken: list[tuple[Path, int]] = []
    acquire = FolderLock.acquire.__func__  # type: ignore[attr-defined]

    def remembered(kind: type[FolderLock], folder: Path, *arguments: Any) -> FolderLock:
        lock: FolderLock = acquire(kind, folder, *arguments)
        taken.append((folder / LOCK_NAME, lock.fd))
        return lock

    with signal_handlers.put_back(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderLock, "acquire", classmethod(remembered))
        try:
            yield
        finally:
            for path, fd in taken:
                with contextlib.suppress(OSError):  # abandoned: closed already, or the file is gone
                    if os.path.samestat(os.fstat(fd), path.stat()):
                        os.close(fd)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Runs a command in a folder of its own: the engine is to be found wherever it is started."""

    def run_command(*command: str, **environment: str) -> Result:
        env = {"ACCELERATE_USE_CPU": "true", **environment}
        return run(*command, folder=tmp_path_factory.mktemp("process"), env=env)

    return run_command


@pytest.fixture(scope="session")
def launch_two(start: Callable[..., Result]) -> Callable[..., Result]:
    """Runs a module or a script on two ranks: `launch_two("-m", "engine.train", run_dir)`."""

    def launch(*what: str, **environment: str) -> Result:
        launcher = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
        ports = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")
        return start(*launcher, *ports, *what, **environment)

    return launch


@pytest.fixture(scope="session")
def tokenizer(tiny_tokenizer: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `tiny_tokenizer`."""
    return load_tokenizer(str(tiny_tokenizer))


@pytest.fixture(scope="session")
def stores(tiny_settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, TokenStore]:
    """The training and the validation rows as a run has them, by setting."""
    found = {}
    for setting in ("train_file", "validation_file"):
        source = RowSource(Path(tiny_settings[setting]), setting, "prompt", "response")
        root = Path(tiny_settings["token_store"])
        found[setting] = open_store(source, tokenizer, tiny_settings["max_seq_len"], root, lambda _done, _total: None)
    return found


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of a run from a small causal model that has dropout, but none in its attention."""
    dropout = {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.0}
    return chatty(tmp_path_factory.mktemp("chat"), "gpt2", **dropout)


@pytest.fixture(scope="session")
def taught_t5(tiny_t5: Path, stores: dict[str, TokenStore], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_t5` after it learned half of the validation rows by heart: replies end, BLEU is not 0."""
    torch.manual_seed(0)
    model = T5ForConditionalGeneration.from_pretrained(tiny_t5).eval()
    rows = stores["validation_file"]
    batch = micro_batch(rows.rows_at(range(0, len(rows), 2)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("taught")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def uncut_on_two(launch_two: Callable[..., Result], make_run: Callable[..., RunDir]) -> tuple[Result, Outcome]:
    """A whole run on two ranks, launched as a user would."""
    run_dir = make_run(processes=2, gradient_accumulation_steps=4)
    finished = launch_two("-m", "engine.train", str(run_dir.path))
    return finished, outcome_of(run_dir, finished.code)


@pytest.fixture(scope="session")
def cpu_world() -> World:
    """The world of one process."""
    return World()


@pytest.fixture(scope="session")
def gradient_cases(
    tiny_settings: dict[str, Any], tiny_bart: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, RunConfig]:
    """Configurations of one step over 16 uneven rows: nothing random, nothing clipped."""
    common = {**tiny_settings, "dropout_rate": 0.0, "max_grad_norm": 1e9, "gradient_accumulation_steps": 16}
    cases: dict[str, dict[str, Any]] = {
        "t5": {"freeze": ""},
        "t5_frozen": {"freeze": "encoder,embeddings"},
        "bart": {"freeze": "", "pretrained_model": str(tiny_bart)},
        "t5_lora": {"freeze": "", "lora_rank": 3, "lora_alpha": 3.0},
        "bart_lora": {"freeze": "", "lora_rank": 3, "lora_alpha": 3.0, "pretrained_model": str(tiny_bart)},
        "causal": chatty(tmp_path_factory.mktemp("gemma"), "gemma3_text", head_dim=8, **SLIDING),
        "causal_lora": {**chatty(tmp_path_factory.mktemp("llama"), "llama"), "lora_rank": 3, "lora_alpha": 3.0},
    }
    return {name: override(preset("sft-small").config, {**common, **case})[0] for name, case in cases.items()}


SCORED_ON_TWO = (1, 2, 3, 8, 17)


@pytest.fixture(scope="session")
def scored_config(tiny_settings: dict[str, Any], taught_t5: Path) -> RunConfig:
    """The configuration of an evaluation in several small batches."""
    values = {**tiny_settings, "pretrained_model": str(taught_t5), "eval_batch_rows": 3, "max_new_tokens": 0}
    return override(preset("sft-small").config, values)[0]


@dataclasses.dataclass(frozen=True)
class TwoRanks:
    """What both ranks of the one launch of two_ranks.py found."""

    folder: Path
    found: tuple[dict[str, Any], dict[str, Any]]
    curve: Outcome  # no dropout, stopped after its last step
    stopped: Outcome  # after step 3
    resumed: Outcome  # continues from a copy of it
    refused: Outcome
    failed: Outcome


@pytest.fixture(scope="session")
def divided_steps(tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    """Steps of 9 uneven rows, in which ranks have unlike numbers of micro-batches."""
    llama = chatty(tmp_path_factory.mktemp("llama"), "llama")
    gemma = chatty(tmp_path_factory.mktemp("gemma"), "gemma3_text", head_dim=8, **SLIDING)
    common = {**tiny_settings, "dropout_rate": 0.0, "max_grad_norm": 1e9, "gradient_accumulation_steps": 9}
    gpt2 = chatty(tmp_path_factory.mktemp("gpt2"), "gpt2")
    lora, bf16 = {**llama, "lora_rank": 3, "lora_alpha": 3.0}, {"mixed_precision": "bf16"}
    cases = {"all": llama, "lora": lora, "gemma": gemma}
    cases |= {"all_bf16": {**llama, **bf16}, "lora_bf16": {**lora, **bf16}, "norms_bf16": {**gpt2, **bf16}}
    every = {"micro_batch_tokens": 60, "shard": "full"}
    return {name: override(preset("sft-small").config, {**common, **case, **every})[0] for name, case in cases.items()}


@pytest.fixture(scope="session")
def two_ranks(
    make_run: Callable[..., RunDir],
    gradient_cases: dict[str, RunConfig],
    divided_steps: dict[str, RunConfig],
    scored_config: RunConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> TwoRanks:
    """Runs two_ranks.py, once for all tests; a launcher, as for `uncut_on_two`, would start as long as both ranks."""
    folder = tmp_path_factory.mktemp("two_ranks")
    runs = {
        "curve": make_run(processes=2, gradient_accumulation_steps=4, dropout_rate=0.0),
        "stopped": make_run(processes=2, gradient_accumulation_steps=4),
        "resumed": make_run(processes=2, gradient_accumulation_steps=4, resume=True),
        "refused": make_run(processes=2, tokenizer=str(folder / "missing")),
        "failed": make_run(processes=2, token_store="/dev/null/token_store"),
    }
    scores = {rows: dataclasses.replace(scored_config, eval_rows=rows) for rows in SCORED_ON_TWO}
    spec = {
        "gradients": {name: to_json(config) for name, config in gradient_cases.items()},
        "divided": {name: to_json(config) for name, config in divided_steps.items()},
        "scores": {rows: to_json(config) for rows, config in scores.items()},
        "steps": 10,
        **{name: str(run_dir.path) for name, run_dir in runs.items()},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    script = Path(__file__).with_name("two_ranks.py")
    run_on(2, folder, str(script), str(folder))
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    outcomes = {name: outcome_of(run_dir, first[name]) for name, run_dir in runs.items()}
    return TwoRanks(folder, (first, second), **outcomes)


@pytest.fixture(scope="package")  # after that of the threads
def finished(run_here: Runner) -> Outcome:
    """A whole run without dropout."""
    return run_here(dropout_rate=0.0)


@pytest.fixture(params=["by torch", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing what there is compiled code for."""
    if request.param == "by torch":
        monkeypatch.setattr(native, "library", lambda: None)
    else:
        required(native.library(), "the compiled code")
