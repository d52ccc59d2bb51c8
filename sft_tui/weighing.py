"""The app's side of `engine.weigh`: how rows begin, and the losses of their tokens."""

from collections.abc import Sequence
from typing import Self

from engine.contract.child_command import module_command
from engine.contract.config import RunConfig
from engine.contract.config import to_json as settings_json
from engine.contract.messages import InputError
from engine.contract.requests import BeginningsRequest, WantedRow, WeighRequest
from engine.contract.row_losses import RowLoss
from engine.contract.weighed import MOST_BEGINNINGS, Beginnings, RowBeginning, WeighedRow
from sft_tui.preflight.ask_engine import Inspector, InspectorDied
from sft_tui.runs import Run

COMMAND = module_command("engine.weigh")


class Weigher:
    """A process of the engine that weighs rows of one run; it ends with the block."""

    def __init__(self, run: Run) -> None:
        self._config: RunConfig = run.record.run_config()
        output = run.output
        self._output = str(output.path) if output is not None else ""
        self._process = Inspector(COMMAND)

    def __enter__(self) -> Self:
        """Starts the process."""
        self._process.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.__exit__()

    def kill(self) -> None:
        """Ends the process, also while another thread waits for its answer."""
        self._process.kill()

    def beginnings(self, rows: Sequence[RowLoss]) -> dict[int, RowBeginning]:
        """How rows begin, by their numbers in the store; raises InputError."""
        wanted = tuple(dict.fromkeys(map(_wanted, rows)))[:MOST_BEGINNINGS]
        request = BeginningsRequest(settings_json(self._config), self._output, wanted)
        try:
            found = self._process.ask(request, Beginnings)
        except InspectorDied as died:
            raise self._error(died) from None
        return {row.sample: row for row in found.rows}

    def weigh(self, row: RowLoss) -> WeighedRow:
        """The losses of a row's tokens; raises InputError."""
        request = WeighRequest(settings_json(self._config), self._output, _wanted(row))
        try:
            return self._process.ask(request, WeighedRow)
        except InspectorDied as died:
            raise self._error(died) from None

    def _error(self, died: InspectorDied) -> InputError:
        return died.error(self._config, self._config.train_file)


def _wanted(row: RowLoss) -> WantedRow:
    return WantedRow(row.sample, row.row, row.tokens)
