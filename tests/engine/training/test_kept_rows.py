"""The losses of rows that a training keeps: exact, of every family's step, without changing a bit of it."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.row_losses import steps_of
from engine.data.token_store import TokenStore
from engine.models.loss import keeping_token_losses
from engine.training.step_losses import StepLosses
from tests.engine.training.test_step import CASES, ROWS, one_step

if TYPE_CHECKING:
    from engine.contract.config import RunConfig
    from engine.process.world import World
    from tests.engine.conftest import Outcome, Runner


@pytest.mark.parametrize("case", CASES)
def test_the_losses_of_rows_sum_to_the_loss_of_the_step(
    gradient_cases: dict[str, "RunConfig"],
    stores: dict[str, TokenStore],
    cpu_world: "World",
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = stores["train_file"]
    result, found = one_step(gradient_cases[case], store, cpu_world, micro_batch_tokens=60)
    assert sorted(sample for sample, _, _ in result.rows) == list(range(ROWS))
    assert all(tokens == len(store.label(sample)) for sample, tokens, _ in result.rows)
    assert math.fsum(loss for _, _, loss in result.rows) / result.label_tokens == pytest.approx(result.loss, rel=1e-12)

    monkeypatch.setattr(StepLosses, "add_rows", lambda *_: None)
    without, expected = one_step(gradient_cases[case], store, cpu_world, micro_batch_tokens=60)
    assert (without.loss, without.grad_norm) == (result.loss, result.grad_norm)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_losses_of_tokens_are_kept_only_within_the_block() -> None:
    from engine.models.loss import summed_loss_of_logits

    logits, labels = torch.randn(4, 9), torch.tensor([1, 2, 3, 4])
    with keeping_token_losses() as found:
        whole = summed_loss_of_logits(logits, labels)
        with keeping_token_losses() as inner:
            summed_loss_of_logits(logits[:2], labels[:2])
    summed_loss_of_logits(logits, labels)
    assert [len(part) for part in found] == [4]
    assert [len(part) for part in inner] == [2]
    assert float(found[0].double().sum()) == float(whole)


def test_a_network_that_sums_its_loss_otherwise_has_no_losses_of_rows() -> None:
    from engine.data.token_store import Row

    found = StepLosses()
    found.add(torch.tensor(1.0))
    found.add_rows([0], [Row(np.arange(4), ((2, 4),))], [])
    assert found.read() == (1.0, [])


def test_a_run_keeps_the_rows_of_its_steps(finished: "Outcome") -> None:
    kept = steps_of(finished.run_dir)
    reported = finished.all(events.Step)
    assert [(one.step, one.epoch, one.loss, one.tokens) for one in kept] == [
        (one.step, one.epoch, one.loss, one.label_tokens) for one in reported
    ]
    for one, event in zip(kept, reported, strict=True):
        assert sorted(row.row for row in one.rows) == sorted(event.sample_ids)
        assert sum(row.loss for row in one.rows) == pytest.approx(one.loss * one.tokens, rel=1e-6)
        assert one.count == len(one.rows) == 8


def test_a_resumed_run_keeps_the_same_rows(finished: "Outcome", run_here: "Runner", tmp_path: Any) -> None:
    from tests.engine.conftest import ask_to_stop

    first = run_here(folder=tmp_path, dropout_rate=0.0, listener=ask_to_stop(tmp_path, events.Step, 4))
    assert first.ended.reason == "stopped"
    path = first.run_dir.row_losses_of(0)
    done = path.read_bytes()
    path.write_bytes(done + done.splitlines(keepends=True)[0].replace(b'"step":1,', b'"step":9,'))  # of a lost attempt
    first.run_dir.clear_requests()
    resumed = run_here(folder=tmp_path, dropout_rate=0.0, resume=True)
    assert resumed.code == 0
    assert steps_of(resumed.run_dir) == steps_of(finished.run_dir)


def test_a_disk_that_cannot_be_written_is_warned_of_once(
    run_here: "Runner", tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.contract.row_losses._append", full)
    monkeypatch.setattr("engine.contract.row_losses.RETRY_STEPS", 1)
    run = run_here(folder=tmp_path)
    said: list[Message] = [one.message for one in run.all(events.Warning) if one.message.code == "rows_unkept"]
    assert run.code == 0
    assert len(said) == 1
    assert "No space left" in said[0].what()
