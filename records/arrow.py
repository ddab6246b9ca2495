"""How a frozen dataclass becomes an Arrow struct and comes back: the one place that knows the mapping of types.

str and enums are `string`, int `int64`, float `float64`, tuples lists, `X | None` a nullable X, nested dataclasses
structs, arrays of floats a list of `vector_type`.
"""

import dataclasses
import types
import typing
from collections.abc import Hashable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")

_PLAIN: dict[object, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def field_types(record: type) -> dict[str, Any]:
    """Field to annotation, resolved, of a dataclass."""
    return _field_types(record)


@cache
def _field_types(record: Hashable) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(typing.cast(type, record))}


@cache
def without_none(hint: Any) -> Any:  # noqa: ANN401 - a type annotation is any object
    """The annotation `X` of `X | None`; others as they are."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    return members[0]  # a union of array types is one list type


def arrow_type(hint: Any, vector_type: pa.DataType) -> pa.DataType:  # noqa: ANN401 - as above
    """The Arrow type of an annotation.

    Raises:
        TypeError: The annotation has no mapping.
    """
    hint = without_none(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin = typing.get_origin(hint)
    if origin is np.ndarray:
        return pa.list_(vector_type)
    if origin is tuple:
        return pa.list_(arrow_type(typing.get_args(hint)[0], vector_type))
    if origin is Mapping:
        return pa.map_(pa.string(), pa.string())
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return pa.string()
    if dataclasses.is_dataclass(hint):
        return pa.struct(struct_fields(typing.cast(type, hint), vector_type))
    raise TypeError(f"no Arrow type for {hint!r}")


def struct_fields(record: type, vector_type: pa.DataType) -> "list[pa.Field[Any]]":
    """One Arrow field for each field of a dataclass, in its order."""
    return [pa.field(name, arrow_type(hint, vector_type)) for name, hint in field_types(record).items()]
