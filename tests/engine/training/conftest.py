"""One launch on two ranks of what the tests of divided models look at."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.contract.config import RunConfig, override
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from tests.engine.conftest import Outcome, outcome_of
from tests.engine.models.causal.exact import SLIDING
from tests.engine.models.causal.small import chatty
from tests.engine.training.sharded import STEPS, Launch, launched


@pytest.fixture(scope="session")
def divided_steps(tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    """Steps of 9 uneven rows, in which ranks have unlike numbers of micro-batches."""
    llama = chatty(tmp_path_factory.mktemp("llama"), "llama")
    gemma = chatty(tmp_path_factory.mktemp("gemma"), "gemma3_text", head_dim=8, **SLIDING)
    common = {**tiny_settings, "dropout_rate": 0.0, "max_grad_norm": 1e9, "gradient_accumulation_steps": 9}
    cases = {"all": llama, "lora": {**llama, "lora_rank": 3, "lora_alpha": 3.0}, "gemma": gemma}
    every = {"micro_batch_tokens": 60, "shard": "full"}
    return {name: override(preset("sft-small").config, {**common, **case, **every})[0] for name, case in cases.items()}


@pytest.fixture(scope="session")
def divided_cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The settings of runs of two epochs, with 16 rows a step."""
    llama = {**chatty(tmp_path_factory.mktemp("llama"), "llama"), "bleu_rows": 2, "eval_rows": 6}
    return {"all": llama, "lora": {**llama, "lora_rank": 3}}


@pytest.fixture(scope="session")
def on_two(
    make_run: Callable[..., RunDir],
    divided_steps: dict[str, RunConfig],
    divided_cases: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Launch, dict[str, Outcome]]:
    """The steps and the runs, which were stopped before they were finished: that would close the process group."""
    two = {"processes": 2, "gradient_accumulation_steps": 8, "shard": "full"}
    made = {name: make_run(**two, **settings) for name, settings in divided_cases.items()}
    folder, runs = tmp_path_factory.mktemp("shards") / "two", {name: (run, STEPS) for name, run in made.items()}
    launch = launched(folder, 2, divided_steps, runs)
    return launch, {name: outcome_of(run, 0) for name, run in made.items()}
