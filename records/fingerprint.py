"""Fingerprints: one name for all that can change a stage's output, so that stored results are told from pending ones.

Two runs that would write the same output get the same name: on any machine, in any order of fields. What is hashed is
canonical JSON, hence readable: `canonical_json` gives the text when two fingerprints must be compared by a person.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from enum import Enum

from records.errors import UserError

FINGERPRINT_CHARACTERS = 16


def fingerprint(
    *,
    stage: str,
    revision: int,
    fields: Mapping[str, object],
    model_commit: str | None,
    upstream: Mapping[str, str],
) -> str:
    """Names one way of running one stage.

    Args:
        stage: The stage's name.
        revision: Raised by hand when the stage's code changes its output.
        fields: What of the stage's config changes its output: None, bools, integers, floats, strings, enums, tuples,
            lists, mappings with text keys and dataclasses, nested at will. A dataclass counts with its class's name,
            a tuple as a list (YAML knows no tuples), a whole float not as an integer.
        model_commit: The commit or digest of the weights; None for a stage without a model.
        upstream: Stage name to fingerprint, for each stage whose results this one reads.

    Returns:
        16 hexadecimal characters: 64 bits of BLAKE2b, safe in a path.

    Raises:
        TypeError: A value of another type, which has no one canonical text (a set, a path, an array); names its place.
        UserError: A float that is not finite; names its place.
    """
    text = canonical_json(
        {
            "stage": stage,
            "revision": revision,
            "fields": fields,
            "model_commit": model_commit,
            "upstream": upstream,
        },
        name=stage,
    )
    return hashlib.blake2b(text.encode("ascii"), digest_size=FINGERPRINT_CHARACTERS // 2).hexdigest()


def canonical_json(value: object, name: str = "value") -> str:
    """The one JSON text of `value`: keys sorted, no white space, ASCII, floats by their shortest exact form.

    Args:
        value: As the fields of `fingerprint`.
        name: What messages call it.

    Raises:
        TypeError: A value without a canonical text; names its place.
        UserError: A float that is not finite; names its place.
    """
    return json.dumps(_plain(value, name), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: object, place: str) -> object:
    """`value` in the types that JSON has; `place` leads there in messages."""
    if isinstance(value, Enum):
        return _plain(value.value, place)
    # Exact types: a subclass (numpy.float64 is a float) may print or compare otherwise than what it derives from.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise UserError(f"{place}: cannot fingerprint {value}, which is not finite")
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        content = {f.name: _plain(getattr(value, f.name), f"{place}.{f.name}") for f in dataclasses.fields(value)}
        return {type(value).__name__: content}
    if isinstance(value, tuple | list):
        return [_plain(entry, f"{place}[{position}]") for position, entry in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{place}: cannot fingerprint the key {key!r}, which is no text")
        return {key: _plain(entry, f"{place}.{key}") for key, entry in value.items()}
    raise TypeError(f"{place}: cannot fingerprint a {type(value).__name__}")
