"""A fingerprint changes with everything that can change a stage's output, and with nothing else."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import UserError
from records.fingerprint import canonical_json, fingerprint


class Dtype(StrEnum):
    FLOAT16 = "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    frames: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Even:
    frames: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    fps: float = 2.0
    rule: Uniform | Even = Uniform()
    sizes: tuple[int, ...] = (28, 56)


GOLDEN: dict[str, Any] = {
    "stage": "caption",
    "revision": 1,
    "fields": {
        "prompt": "Was läuft?",
        "temperature": 0.1,
        "sampling": Sampling(),
        "dtype": Dtype.FLOAT16,
        "seed": None,
    },
    "model_commit": "66285546d2b821cf421d4f5eb2576359d3770cd3",
    "upstream": {"decode": "0123456789abcdef"},
}

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
FIELDS = st.dictionaries(st.text(min_size=1, max_size=8), VALUES, min_size=1, max_size=5)


def of(fields: dict[str, Any]) -> str:
    return fingerprint(stage="caption", revision=1, fields=fields, model_commit=None, upstream={})


def reordered(value: object, shuffle: Callable[[list[Any]], list[Any]]) -> object:
    """The same value with the keys of every dict in another order and lists as tuples."""
    if isinstance(value, dict):
        return {key: reordered(value[key], shuffle) for key in shuffle(sorted(value))}
    if isinstance(value, list):
        return tuple(reordered(entry, shuffle) for entry in value)
    return value


def test_golden_value_is_stable() -> None:
    """Stored results are found by this name: a change here makes every stored result pending again."""
    assert fingerprint(**GOLDEN) == "58550fa2caf2bf07"


@settings(max_examples=50, deadline=None)
@given(fields=FIELDS, data=st.data())
def test_order_of_fields_and_kind_of_sequence_do_not_count(fields: dict[str, Any], data: st.DataObject) -> None:
    other = reordered(fields, lambda keys: data.draw(st.permutations(keys)))
    assert isinstance(other, dict)
    assert of(fields) == of(other)


@given(fields=FIELDS)
def test_canonical_json_loses_nothing(fields: dict[str, Any]) -> None:
    """Hence two different values can only share a fingerprint by a collision of the hash."""
    read = json.loads(canonical_json(fields))
    assert read == fields
    assert canonical_json(read) == canonical_json(fields)


@settings(max_examples=50, deadline=None)
@given(fields=FIELDS, data=st.data())
def test_every_field_counts(fields: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(fields)))
    without = {key: value for key, value in fields.items() if key != name}
    changed = {**fields, name: [fields[name]]}
    assert len({of(fields), of(without), of(changed)}) == 3


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("stage", "embed"),
        ("revision", 2),
        ("fields", {**GOLDEN["fields"], "temperature": 0.10000000000000002}),
        ("fields", {**GOLDEN["fields"], "sampling": Sampling(rule=Even())}),
        ("fields", {**GOLDEN["fields"], "sampling": Sampling(sizes=(56, 28))}),
        ("fields", {**GOLDEN["fields"], "seed": 0}),
        ("fields", {**GOLDEN["fields"], "seed": False}),
        ("model_commit", None),
        ("upstream", {}),
        ("upstream", {"decode": "0123456789abcdee"}),
        ("upstream", {"caption": "0123456789abcdef"}),
    ],
)
def test_every_argument_counts(argument: str, value: object) -> None:
    assert fingerprint(**{**GOLDEN, argument: value}) != fingerprint(**GOLDEN)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, Path("a"), np.float64(0.5), np.zeros(2), b"bytes", Sampling, object(), {1: "key"}, iter("ab")],
)
def test_a_type_without_canonical_text_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"fields\.sampling\.sizes\[1\]"):
        of({"sampling": {"sizes": [0, value]}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_float_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"fields\.top_p: .*not finite"):
        of({"top_p": value})


def test_it_is_safe_in_a_path() -> None:
    assert set(fingerprint(**GOLDEN)) <= set("0123456789abcdef")
    assert len(fingerprint(**GOLDEN)) == 16
