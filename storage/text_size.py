"""How much text a record holds: what its memory grows with, where a listing brings metadata of any length."""

import dataclasses
from collections.abc import Hashable, Mapping
from functools import cache

_NUMBERS = (int, bool, float, int | None)


def text_length(value: object) -> int:
    """Characters in all texts of a record, a tuple or a mapping."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (tuple, list)):
        return sum(map(text_length, value))
    if isinstance(value, Mapping):
        return sum(map(text_length, value.keys())) + sum(map(text_length, value.values()))
    kind: type = type(value)
    length = 0
    for name in _fields(kind):
        length += text_length(getattr(value, name))
    return length


@cache
def _fields(record: Hashable) -> tuple[str, ...]:
    """Fields of a dataclass that may hold text; none of anything else."""
    if not isinstance(record, type) or not dataclasses.is_dataclass(record):
        return ()
    return tuple(field.name for field in dataclasses.fields(record) if field.type not in _NUMBERS)
