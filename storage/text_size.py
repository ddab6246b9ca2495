"""How much text a record holds: what its memory grows with, where a listing brings metadata of any length."""

import dataclasses
from collections.abc import Hashable
from functools import cache

_NUMBERS = (int, bool, float, int | None)


def text_length(value: object) -> int:
    """Characters in all texts of a record, a tuple, a list or a dictionary."""
    kind: type = type(value)
    if kind is str:
        return len(value)  # type: ignore[arg-type] # mypy does not narrow by a type held in a variable
    length = 0
    if isinstance(value, (tuple, list)):
        for part in value:
            length += text_length(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            length += text_length(key) + text_length(part)
    else:
        texts, others = _fields(kind)
        for name in texts:
            length += len(getattr(value, name))
        for name in others:
            length += text_length(getattr(value, name))
    return length


@cache
def _fields(record: Hashable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fields of a dataclass that are texts, and others that may hold some; none of anything else."""
    if not isinstance(record, type) or not dataclasses.is_dataclass(record):
        return (), ()
    fields = dataclasses.fields(record)
    texts = tuple(field.name for field in fields if field.type is str)
    return texts, tuple(field.name for field in fields if field.type is not str and field.type not in _NUMBERS)
