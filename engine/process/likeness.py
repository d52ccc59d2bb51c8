"""Whether all machines of a run have the same programs: other versions may wait for sums that this one never makes."""

from collections.abc import Mapping

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.process.world import World

MAY_DIFFER = ("kernels", "threads")  # by the processor of a machine


def require_alike(world: World, versions: Mapping[str, str]) -> None:
    """Raises InputError on every rank unless all machines have the `versions` of rank 0's; all ranks call it."""
    main, *others = world.gather([{name: found for name, found in versions.items() if name not in MAY_DIFFER}])
    for rank, found in enumerate(others, 1):
        differing = [name for name in main if main[name] != found.get(name)]
        if differing:
            listed = (
                Phrase.of("versions.other", name=name, there=found.get(name, "-"), here=main[name])
                for name in differing
            )
            raise InputError("machines_differ", node=world.nodes[rank], main=world.nodes[0], differences=tuple(listed))
