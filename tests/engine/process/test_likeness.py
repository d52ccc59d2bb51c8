"""Machines with other programs than the first one's."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract.messages import InputError
from engine.process.likeness import require_alike

MINE = {"python": "3.11.7", "torch": "2.13.0", "engine": "0123456789ab", "threads": "2", "kernels": "avx512"}


def world_of(*others: dict[str, str]) -> Any:
    nodes = ["ash", "oak", "elm"][: 1 + len(others)]
    gather = lambda mine: [*mine, *others]  # noqa: E731
    return SimpleNamespace(nodes=nodes, machines=nodes, gather=gather)


def test_machines_with_other_processors_train_together() -> None:
    require_alike(world_of({**MINE, "threads": "64", "kernels": "avx2"}), MINE)


@pytest.mark.parametrize("theirs", [{**MINE, "torch": "2.12.0"}, {k: v for k, v in MINE.items() if k != "torch"}])
def test_a_machine_with_other_versions_is_named_with_them(theirs: dict[str, str]) -> None:
    with pytest.raises(InputError) as refused:
        require_alike(world_of(MINE, theirs), MINE)
    found = theirs.get("torch", "-")
    assert refused.value.message.what("en") == f"elm has other versions than ash: torch {found} (not 2.13.0)."
    assert f"torch {found}（应为 2.13.0）" in refused.value.message.what("zh")
