"""The process that weighs rows, from the app's side."""

import sys
from pathlib import Path

import pytest

from engine.contract.config import to_json
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.row_losses import RowLoss
from engine.contract.rundir import RunDir
from engine.contract.weighed import RowBeginning, WeighedRow
from sft_tui import weighing
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from sft_tui.weighing import Weigher

SPEAKER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["task"] == "beginnings":
        facts = {"rows": [{"sample": row["sample"], "given": "q", "learned": "a"} for row in asked["rows"]]}
    elif asked["row"]["row"] == 9:
        sys.exit("it broke")
    else:
        facts = {"sample": asked["row"]["sample"], "texts": ["q", "a"], "learned": [[1, 2]], "losses": [1.5],
                 "origin": "best", "step": 3}
    print(json.dumps({"facts": facts}), flush=True)
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr(weighing, "COMMAND", [sys.executable, "-c", SPEAKER])
    record = RunRecord("r", "sft-small", "train", to_json(preset("sft-small").config))
    return Run(RunDir(tmp_path / "r"), record, RunState(), alive=False)


def test_rows_begin_and_are_weighed_by_one_process(run: Run) -> None:
    with Weigher(run) as weigher:
        assert weigher.beginnings([RowLoss(4, 2, 1, 1.0)] * 2) == {2: RowBeginning(2, "q", "a")}
        assert weigher.weigh(RowLoss(4, 2, 1, 1.0)) == WeighedRow(2, ("q", "a"), ((1, 2),), (1.5,), "best", 3)


def test_a_process_that_ends_is_an_error_in_a_sentence(run: Run) -> None:
    with Weigher(run) as weigher, pytest.raises(InputError, match="it broke"):
        weigher.weigh(RowLoss(9, 2, 1, 1.0))
    with Weigher(run) as weigher:
        weigher.kill()
        with pytest.raises(InputError):
            weigher.weigh(RowLoss(4, 2, 1, 1.0))
