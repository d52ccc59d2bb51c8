import numpy as np
import pytest
import torch

from engine.data.token_store import Row
from engine.training.step_losses import StepLosses

ROWS = [Row(np.arange(6), ((1, 3), (4, 5))), Row(np.arange(4), ((2, 4),))]


def test_losses_of_micro_batches_and_of_rows_are_read_at_once() -> None:
    found = StepLosses()
    found.add(torch.tensor(0.1, dtype=torch.float64))
    found.add_rows([7, 8], ROWS, [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])])
    found.add(torch.tensor(0.2, dtype=torch.float64))
    found.add_rows([9], ROWS[:1], [torch.tensor([1.0])])  # of unknown tokens
    assert found.read() == (0.1 + 0.2, [(7, 3, 6.0), (8, 2, 9.0)])


def test_a_step_without_micro_batches_has_no_loss() -> None:
    assert StepLosses().read() == (0.0, [])


def test_a_loss_that_is_no_number_stays_one() -> None:
    found = StepLosses()
    found.add(torch.tensor(float("nan")))
    assert found.read()[0] != pytest.approx(0)
