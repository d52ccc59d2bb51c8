"""JSON objects that are whole tables, as written by pandas, and not records: they are refused by orient name.

They are not read, since a whole file would have to be held in memory, and a table of lists differs from a record
with lists in it only by its appearance.
"""

from collections.abc import Callable, Mapping
from typing import Any

from engine.data.shapes.columns import listlike, part_of

Object = Mapping[Any, Any]
CONTAINERS = (list, Mapping)
TEXTS = ("instruction", "question", "input", "context", "answer", "asker", "answerer")  # parts that are texts


def orient_of(record: Object) -> str:
    """The name that pandas gives this layout of a table (`split`, `index`, `columns`, `list`); empty for a record."""
    for value in record.values():  # a generator takes three times as long, for every record
        if not isinstance(value, CONTAINERS):
            return ""
    if not record:
        return ""
    return next((name for name, is_one in ORIENTS.items() if is_one(record)), "")


def _is_split(record: Object) -> bool:
    """`{"columns": ["prompt", …], "index": [0, …], "data": [["…", …], …]}`."""
    names, rows = record.get("columns"), record.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(name, str) for name in names):
        return False
    return all(isinstance(row, list) and len(row) == len(names) for row in rows)


def _is_index(record: Object) -> bool:
    """`{"0": {"prompt": "…", …}, …}`: records keyed by number, or several keyed by unknown names."""
    return (len(record) > 1 or all(str(name).isdecimal() for name in record)) and all(
        isinstance(value, Mapping) and not part_of(name) and any(map(part_of, value)) for name, value in record.items()
    )


def _is_columns(record: Object) -> bool:
    """`{"prompt": {"0": "…", …}, …}`: the cells of each column under the same names, usually numbers."""
    cells = list(record.values())
    if not all(isinstance(value, Mapping) and value and value.keys() == cells[0].keys() for value in cells):
        return False
    numbered = all(str(name).isdecimal() for name in cells[0])
    return numbered or (len(cells) > 1 and not any(map(listlike, cells)))


def _is_list(record: Object) -> bool:
    """`{"prompt": ["…", …], …}`: columns of equal length, at least one of them with texts or conversations."""
    cells = list(record.values())
    if not all(isinstance(value, list) and len(value) == len(cells[0]) for value in cells) or len(cells[0]) < 2:
        return False
    if any(isinstance(cell, list) and any(isinstance(turn, Mapping) for turn in cell) for cell in cells[0]):
        return True
    texts = [value for name, value in record.items() if part_of(name) in TEXTS]
    return len(cells) > 1 and any(not isinstance(cell, list | Mapping) for value in texts for cell in value)


ORIENTS: dict[str, Callable[[Object], bool]] = {
    "split": _is_split, "index": _is_index, "columns": _is_columns, "list": _is_list,
}  # fmt: skip
