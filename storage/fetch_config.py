"""What reading items can be told."""

from dataclasses import dataclass, field

from storage.faults import RetryConfig, TimeLimits
from storage.fetch_room import SpillConfig
from storage.in_flight import InFlightConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """Limits on reading. None of them changes an output, so none enters a fingerprint.

    Raises:
        ValueError: A limit is not positive.
    """

    max_bytes: int = 2 * 1024**3
    """Largest object or byte range that is read."""
    limits: TimeLimits = field(default_factory=TimeLimits)
    """How long one request may take; on S3 and http."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    """How throttling, time-outs, resets, short bodies and contradictions are retried."""
    in_flight: InFlightConfig = field(default_factory=InFlightConfig)
    """How much is fetched ahead of decoding."""
    spill: SpillConfig = field(default_factory=SpillConfig)
    """Where large items lie until they are decoded."""
    part_bytes: int = 16 * 2**20
    """Larger items are read in byte ranges of this size, each retried by itself."""
    parts_at_once: int = 4
    """Byte ranges of one item that are read at a time."""
    parquet_disk_bytes: int = 8 * 1024**3
    """Most that rows of Parquet files take in temporary files of one worker, one row group at least."""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.part_bytes, self.parts_at_once, self.parquet_disk_bytes) < 1:
            raise ValueError("fetch: max_bytes, part_bytes, parts_at_once and parquet_disk_bytes must be positive")
