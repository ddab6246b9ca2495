"""Records as plain values, written apart from the project's own way into Arrow: what tests compare with."""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


def to_dict(record: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass instance
    """A record as `pyarrow.array` takes it; arrays stay arrays."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a field's value
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(element) for element in value]
    if isinstance(value, Mapping):
        return list(value.items())
    return value
