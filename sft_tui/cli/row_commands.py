"""The commands for the rows that made a step's loss, and for rows that are left out of training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.contract.bounds import as_json
from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, complete_run, logs_option, meanwhile, print_error
from sft_tui.cli.data_commands import LINE, data, file_argument
from sft_tui.output import echo, echo_json, terminal_columns

if TYPE_CHECKING:
    from engine.contract.row_losses import StepRows
    from engine.contract.weighed import RowBeginning
    from sft_tui.runs import Run
    from sft_tui.step_rows import SharedRow


@click.command("rows")
@click.argument("name", metavar="RUN", shell_complete=complete_run)
@click.argument("step", metavar="[STEP]", type=click.IntRange(1), required=False)
@click.option("--last", type=click.IntRange(1), metavar="STEP", default=None)
@click.option("--json", is_flag=True)
@logs_option
def rows_command(name: str, step: int | None, last: int | None, json: bool, logs: Path) -> None:
    """Show the rows that made the loss of a STEP of RUN, the newest if none is named."""
    from engine.contract.row_losses import steps_of
    from sft_tui import runs, step_rows

    run_dir = runs.find(logs, name)
    kept = steps_of(run_dir)
    steps = step_rows.require_kept(run_dir.path.name, kept, step or 0, last or 0)
    found = step_rows.shared(steps)
    begun = _beginnings(runs.read_run(run_dir), found)
    if json:
        echo_json(_to_json(steps, found, begun), indent=1)
        return
    echo(step_rows.heading(steps, LANG))
    for line in step_rows.table(found, begun, terminal_columns() or LINE, LANG):
        echo(line)
    unkept = sum(one.count - len(one.rows) for one in steps)
    if unkept:
        echo(say("rows.unkept", LANG, count=unkept), err=True)


def _beginnings(run: "Run", found: "list[SharedRow]") -> "dict[int, RowBeginning]":
    """How the rows begin; nothing, with the reason on standard error, if that cannot be read."""
    from sft_tui.weighing import Weigher

    try:
        with meanwhile(say("rows.reading", LANG)), Weigher(run) as weigher:
            return weigher.beginnings([one.row for one in found])
    except InputError as error:
        print_error(error, LANG)
        return {}


def _to_json(steps: "list[StepRows]", found: "list[SharedRow]", begun: "dict[int, RowBeginning]") -> dict[str, Any]:
    about = [{**as_json(one), "rows": len(one.rows), "count": one.count} for one in steps]
    rows = [
        {
            "step": one.step,
            **as_json(one.row),
            "share": one.share,
            "outlier": one.outlier,
            "text": as_json(begun[one.row.sample]) if one.row.sample in begun else None,
        }
        for one in found
    ]
    return {"steps": about, "rows": rows}


@data.command("leave-out")
@file_argument
@click.argument("rows", metavar="[ROW]...", nargs=-1, type=click.IntRange(0))
@click.option("--undo", is_flag=True)
@click.option("--json", is_flag=True)
def data_leave_out(file: Path, rows: tuple[int, ...], undo: bool, json: bool) -> None:
    """List the rows of FILE that are left out of training, add ROWs to them, or take them back."""
    from engine.contract.leave_out import leave_out_path
    from sft_tui import leaving_out

    listed_in = text.safe(str(leave_out_path(file)))
    if undo:
        echo(say("leave_out.taken_back", LANG, count=leaving_out.take_back(file, rows), file=listed_in), err=True)
    elif rows:
        leaving_out.leave_out(file, rows)
    found = leaving_out.listed_rows(file)
    if json:
        echo_json({"file": str(leave_out_path(file)), "rows": as_json([vars(one) for one in found])})
        return
    key = "leave_out.listed" if found else "leave_out.none"
    echo(say(key, LANG, count=len(found), path=text.safe(str(file)), file=listed_in), err=True)
    for one in found:
        echo(say("leave_out.stale" if one.stale else "leave_out.row", LANG, row=one.row))
