"""Records to Arrow columns and back, a field at a time: the mapping of `records.arrow`, without a dictionary a row.

A vector travels as a slice of one buffer and never becomes a list of Python floats.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from records.arrow import arrow_type, field_types, struct_fields, without_none

T = TypeVar("T")


def encode(values: Sequence[Any], hint: Any, vector_type: pa.DataType) -> "pa.Array[Any]":  # noqa: ANN401 - a type annotation is any object
    """Values of one annotated field as an array; None is null.

    Args:
        values: One a row.
        hint: The field's annotation.
        vector_type: The type of a vector's elements.
    """
    hint = without_none(hint)
    origin = typing.get_origin(hint)
    if origin is np.ndarray:
        dtype = vector_type.to_pandas_dtype()
        present = [value for value in values if value is not None]
        flat = np.concatenate(present).astype(dtype, copy=False) if present else np.empty(0, dtype=dtype)
        return _lists(values, pa.array(flat, type=vector_type))
    if origin is tuple:
        flattened = [element for value in values if value is not None for element in value]
        return _lists(values, encode(flattened, typing.get_args(hint)[0], vector_type))
    if origin is Mapping:
        entries = [None if value is None else list(value.items()) for value in values]
        return pa.array(entries, type=arrow_type(hint, vector_type))
    if dataclasses.is_dataclass(hint):
        return encode_records(values, typing.cast(type, hint), vector_type)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        values = [None if value is None else str(value) for value in values]
    return pa.array(values, type=arrow_type(hint, vector_type))


def encode_records(records: Sequence[Any], record: type, vector_type: pa.DataType) -> pa.StructArray:
    """Records of one dataclass, or None, as a struct array."""
    fields = struct_fields(record, vector_type)
    return structs([encode_field(records, record, field.name, vector_type) for field in fields], fields, records)


def encode_field(records: Sequence[Any], record: type, name: str, vector_type: pa.DataType) -> "pa.Array[Any]":
    """One field of records of a dataclass, null where there is no record."""
    values = [None if one is None else getattr(one, name) for one in records]
    return encode(values, field_types(record)[name], vector_type)


def structs(
    children: Sequence["pa.Array[Any]"], fields: Sequence["pa.Field[Any]"], values: Sequence[object]
) -> pa.StructArray:
    """A struct array that is null where `values` is None."""
    return pa.StructArray.from_arrays(list(children), fields=list(fields), mask=_is_none(values))


def decode(array: "pa.Array[Any] | pa.ChunkedArray[Any]", hint: Any) -> list[Any]:  # noqa: ANN401 - as above
    """What `encode` wrote, one value a row; vectors as float32, each with memory of its own."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in decode(chunk, hint)]
    hint = without_none(hint)
    origin = typing.get_origin(hint)
    if origin is np.ndarray:
        flat = _values(array).to_numpy(zero_copy_only=False)
        return [None if ends is None else flat[slice(*ends)].astype(np.float32) for ends in _ends(array)]
    if origin is tuple:
        ends = _ends(array)
        start = min((one[0] for one in ends if one is not None), default=0)
        stop = max((one[1] for one in ends if one is not None), default=0)
        elements = decode(_values(array).slice(start, stop - start), typing.get_args(hint)[0])
        return [None if one is None else tuple(elements[one[0] - start : one[1] - start]) for one in ends]
    if origin is Mapping:
        return [None if value is None else dict(value) for value in array.to_pylist()]
    if dataclasses.is_dataclass(hint):
        return decode_records(array, typing.cast(type, hint))
    values = array.to_pylist()
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return [None if value is None else hint(value) for value in values]
    return values


def decode_records(array: "pa.Array[Any]", record: type[T]) -> list[T | None]:
    """What `encode_records` wrote; fields that the array does not have keep their defaults."""
    names = [field.name for field in array.type]
    flat = typing.cast(pa.StructArray, array).flatten()
    children = {name: child for name, child in zip(names, flat, strict=True) if name in field_types(record)}
    present = [bool(there) for there in array.is_valid().to_pylist()]
    return records_of(children, record, present)


def records_of(
    columns: Mapping[str, "pa.Array[Any] | pa.ChunkedArray[Any]"], record: type[T], present: Sequence[bool]
) -> list[T | None]:
    """A record for each row that is present, from one column a field; None for the others."""
    hints = field_types(record)
    decoded = [decode(column, hints[name]) for name, column in columns.items()]
    names = list(columns)
    return [
        record(**dict(zip(names, values, strict=True))) if there else None
        for there, *values in zip(present, *decoded, strict=True)
    ]


def _lists(values: Sequence[Any], flat: "pa.Array[Any]") -> "pa.ListArray[Any]":
    lengths = np.fromiter((0 if value is None else len(value) for value in values), dtype=np.int32, count=len(values))
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), flat, mask=_is_none(values))


def _is_none(values: Sequence[object]) -> "pa.Array[Any]":
    mask: pa.Array[Any] = pa.array(np.fromiter((value is None for value in values), dtype=bool, count=len(values)))
    return mask


def _values(array: "pa.Array[Any]") -> "pa.Array[Any]":
    return typing.cast("pa.ListArray[Any]", array).values


def _ends(array: "pa.Array[Any]") -> list[tuple[int, int] | None]:
    """Start and end of each list in the array's values, None for a null."""
    offsets: list[Any] = typing.cast("pa.ListArray[Any]", array).offsets.to_pylist()
    return [
        (start, end) if there else None
        for there, start, end in zip(array.is_valid().to_pylist(), offsets, offsets[1:], strict=False)
    ]
