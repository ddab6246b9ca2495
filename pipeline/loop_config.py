"""How the driver's loop saves and drains."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How often the driver saves and how long it drains. Never part of a fingerprint.

    Raises:
        ValueError: A number is not positive.
    """

    journal_seconds: float = 30.0
    """Rows that wait for their shard are journalled this often: what a kill -9 costs."""
    memory_bytes: int = 64 * 2**20
    """Rows in the driver's memory are journalled early past so many bytes of Arrow; with what journals and commits make
    of them it takes about three times as much."""
    drain_seconds: float = 20.0
    """After a stop, rows on their way may arrive for so long."""

    def __post_init__(self) -> None:
        if self.journal_seconds <= 0 or self.memory_bytes <= 0 or self.drain_seconds < 0:
            raise ValueError("loop: journal_seconds and memory_bytes must be positive, drain_seconds not negative")
