"""The presets as the launch screen lists them, and what runs have left in their folders: a few small files each."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from engine.contract.locks import is_locked
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.presets import Preset, preset, presets
from sft_tui import demo, runs
from sft_tui.found import Progress
from sft_tui.screen.launch_view import Resumable


class PresetStates(NamedTuple):
    """The presets, one's own first, what runs have left in their folders, and the stages of the demos."""

    presets: Mapping[str, Preset]
    resumable: Mapping[str, Resumable]
    offer_demo: bool
    demos: Mapping[str, Progress]


def read(logs: Path, chosen: str) -> PresetStates:
    """Reads them, with the preset that is `chosen`, which may be a file anywhere."""
    found = {}
    known = dict(sorted(presets().items(), key=lambda one: one[1].file is None))
    if chosen not in known:
        with contextlib.suppress(InputError):
            known[chosen] = preset(chosen)
    for name, entry in known.items():
        output = OutputDir(Path(entry.config.output_dir))
        if (unfinished := output.unfinished()) is not None:
            owner, step = unfinished
            found[name] = Resumable(owner.run, step, owner.steps_total, is_locked(output.path))
    demos = {name: Progress(story.stage(), bool(story.current())) for name, story in demo.STORIES.items()}
    return PresetStates(known, found, not runs.exist(logs), demos)
