"""Shards by number and by name."""

from collections.abc import Sequence
from typing import Any


def shard_name(number: int) -> str:
    """A shard's id: its number, eight digits."""
    return f"{number:08d}"


class ShardIds(Sequence[str]):
    """The ids of all shards, made when asked for."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an int gives a str, a slice a ShardIds
        chosen = self._numbers[index]
        return ShardIds(chosen) if isinstance(chosen, range) else shard_name(chosen)
