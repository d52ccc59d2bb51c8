"""The program that weighs rows, as the app asks it."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import weigh
from engine.contract.config import RunConfig, to_json
from engine.contract.messages import InputError
from engine.contract.requests import BeginningsRequest, ModelRequest, WantedRow, WeighRequest
from engine.contract.weighed import Beginnings, WeighedRow
from engine.data.token_store import TokenStore


def config_of(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**to_json(RunConfig()), **values, "output_dir": str(folder)}


def test_beginnings_need_no_model_and_a_row_is_weighed(
    tiny_settings: dict[str, Any], stores: dict[str, TokenStore], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, store = config_of(tiny_settings, tmp_path), stores["train_file"]
    wanted = WantedRow(4, store.row_number(4), len(store.label(4)))
    weigher = weigh.Weigher()
    begun = weigher.answer(BeginningsRequest(config, "", (wanted,)))
    assert isinstance(begun, Beginnings)
    assert weigher._weights is None
    found = weigher.answer(WeighRequest(config, "", wanted))
    assert isinstance(found, WeighedRow)
    assert found.origin == "base"
    assert len(found.losses) == wanted.tokens
    assert begun.rows[0].given + begun.rows[0].learned == "".join(found.texts)
    with pytest.raises(InputError):
        weigher.answer(WeighRequest(config, "", WantedRow(4, 10**6, 1)))
    capsys.readouterr()


def test_another_task_is_not_answered() -> None:
    with pytest.raises(TypeError):
        weigh.Weigher().answer(ModelRequest({}))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own file")
def test_it_steps_back_behind_a_training() -> None:
    child = os.fork()
    if not child:
        weigh.step_back()
        adjusted = Path("/proc/self/oom_score_adj").read_text().strip() == weigh.FIRST_TO_END
        os._exit(0 if os.nice(0) >= weigh.NICENESS and adjusted else 1)
    assert os.waitpid(child, 0)[1] == 0
