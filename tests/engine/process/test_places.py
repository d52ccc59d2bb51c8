from typing import Any

import pytest

from engine.process.places import Place, first_host, interface_towards, place_in_slurm, settle, tasks_per_node

IN_SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_TASKS_PER_NODE": "2(x2),1",
    "SLURM_JOB_NODELIST": "gpu[03-04,7]",
    "SLURM_JOB_ID": "31415",
}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[03-04,7],login", "gpu03"),
        ("gpu[7,9-12]", "gpu7"),
        ("rack[2-3]-n[05,06].local", "rack2-n05.local"),
        ("", ""),
    ],
)
def test_the_first_host_of_a_list_is_where_ranks_meet(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_are_counted_by_node() -> None:
    assert (tasks_per_node("2(x3),1"), tasks_per_node("4"), tasks_per_node("")) == ([2, 2, 2, 1], [4], [])


def test_a_task_of_slurm_finds_its_place() -> None:
    assert place_in_slurm(IN_SLURM) == Place(3, 5, local_rank=1, local_size=2, address="gpu03", port="16415")


@pytest.mark.parametrize("missing", ["SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS"])
def test_what_srun_did_not_start_is_alone(missing: str) -> None:
    """A batch script has most of these variables too."""
    assert place_in_slurm({name: value for name, value in IN_SLURM.items() if name != missing}) is None


def test_a_place_of_slurm_gets_the_names_that_torch_reads() -> None:
    given: dict[str, str] = dict(IN_SLURM)
    settle(given, on_cpu=True)
    assert [given[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")] == ["3", "5", "1", "2"]
    assert (given["MASTER_ADDR"], given["MASTER_PORT"], given["ACCELERATE_USE_CPU"]) == ("gpu03", "16415", "true")


@pytest.mark.parametrize("other", [{"RANK": "0", "WORLD_SIZE": "2"}, {"SFT_TUI_SUPERVISOR": "1"}, {"MASTER_PORT": "7"}])
def test_what_another_launcher_or_a_person_has_set_stays(other: dict[str, Any]) -> None:
    given = {**IN_SLURM, **other}
    settle(given, on_cpu=False)
    assert {name: given[name] for name in other} == other
    assert "ACCELERATE_USE_CPU" not in given


def test_this_machine_itself_needs_no_interface() -> None:
    assert interface_towards("127.0.0.1") == interface_towards("no such.host") == ""
