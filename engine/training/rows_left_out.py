"""Which rows a run leaves out: those that are listed when it begins, and the same whenever it is resumed."""

from pathlib import Path

from engine.contract.leave_out import leave_out_path, read_leave_out
from engine.contract.messages import InputError, Message
from engine.data.row_digests import left_out_of
from engine.data.selection import Selection
from engine.data.token_store import TokenStore
from engine.process.job import Job
from engine.training.checkpoint import FoundCheckpoint


def rows_left_out(job: Job, start: FoundCheckpoint | None, data: dict[str, str]) -> tuple[int, ...]:
    """The rows of the training file that are left out, found by rank 0; raises InputError."""
    if job.config.leave_out == "no":
        return ()
    kept = None
    if start is not None and start.manifest.data.get("train_file") == data.get("train_file"):
        kept = start.manifest.left_out if start.manifest.config.get("leave_out", "yes") == "yes" else None
    found: tuple[int, ...] = job.world.from_main(
        job.world.together(lambda: _listed(job) if kept is None else _kept(job, kept), chosen=job.world.is_main)
    )
    return found


def _listed(job: Job) -> tuple[int, ...]:
    """The rows that are listed now."""
    path = Path(job.config.train_file)
    found = left_out_of(path)
    shown = {"path": str(path), "file": str(leave_out_path(path))}
    if found.rows:
        job.notice(Message.of("rows_left_out", count=len(found.rows), **shown))
    if found.stale:
        job.warn(Message.of("rows_left_out_stale", count=len(found.stale), first=found.stale[0], **shown))
    return found.rows


def _kept(job: Job, kept: tuple[int, ...]) -> tuple[int, ...]:
    """The rows that the run has left out from its beginning."""
    path = Path(job.config.train_file)
    try:
        now = tuple(sorted(read_leave_out(path).digests))
    except InputError:  # which does not matter to this run
        now = kept
    shown = {"path": str(path), "file": str(leave_out_path(path))}
    if kept:
        job.notice(Message.of("rows_left_out", count=len(kept), **shown))
    if now != kept:
        job.notice(Message.of("rows_left_out_kept", count=len(kept), listed=len(now), **shown, **job.options()))
    return kept


def selected(job: Job, store: TokenStore, left_out: tuple[int, ...]) -> Selection:
    """The rows that are trained on; raises InputError if there are none."""
    found = Selection.without(store, left_out)
    if not found.count:
        path = Path(job.config.train_file)
        raise InputError("rows_all_left_out", path=str(path), file=str(leave_out_path(path)))
    return found
