"""What a run was asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from engine.contract import config as settings
from engine.contract.bounds import Between, Count, Name
from engine.contract.config import RunConfig
from engine.contract.launch import OURS, Launch
from engine.contract.outputdir import OutputDir
from engine.contract.owner import Id, Owner
from engine.contract.project import Project


def _settings_of_a_run(values: Mapping[str, Any]) -> None:
    """Raises ValueError if a setting has the wrong type, or if there is no output_dir."""
    settings.require_kinds(values)
    if "output_dir" not in values:
        raise ValueError("its config has no output_dir")


Settings = Annotated[dict[str, Any], _settings_of_a_run]
Processes = Annotated[int, Between(0, settings.setting_of("num_processes").high or 0)]


@dataclass(frozen=True)
class RunRecord:
    """What a run was asked to do; `run.json` in its folder."""

    run: str
    preset: str
    job: str  # "train", "test" or "rehearse"
    config: Settings
    overrides: dict[str, Any] = field(default_factory=dict)
    processes: Processes = 1
    resume: bool = False
    fresh: bool = False
    memory_limit: Count = 0  # bytes that the ranks of a rehearsal may take together; 0: unlimited
    force: bool = False  # continue although the checkpoint was made with something else
    accepted: list[str] = field(default_factory=list)  # settings that a resume may change although they affect results
    resume_option: str = ""  # the command or option that resumes it, as its starter would write it
    fresh_option: str = ""  # the same, for starting over
    elsewhere: str = ""  # the command that works if the launched processes do not find each other
    continued: bool = False  # the first half of the demo: once it has finished, its supervisor starts the second half
    based_on: Name = ""  # the run whose settings it was started with, if it was started from one
    id: Id = ""  # unique to this run; its output folder has the same id
    launch: Launch = OURS  # who starts its processes, if not our own supervisor
    project: Project = ""  # the folder it was started in; in the file relative to the run's own folder, or unknown

    def run_config(self) -> RunConfig:
        """The settings; raises InputError if one is out of range."""
        return settings.from_json(self.config)

    def is_finished(self, owner: Owner) -> bool:
        """Whether the run that owns the output folder completed its epochs, and no more are requested now."""
        more = "epochs" in self.accepted and self.config.get("epochs", 0) > owner.config.get("epochs", 0)
        return owner.finished and not more

    @property
    def output(self) -> OutputDir:
        """The folder where the run writes its model."""
        return OutputDir(Path(str(self.config["output_dir"])))
