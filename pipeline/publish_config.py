"""What publishing can be told."""

from dataclasses import dataclass, field

from pipeline.quality_gates import GateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishConfig:
    """How a release is cut and looked at. Nothing here enters a fingerprint.

    Raises:
        ValueError: A number is out of range.
    """

    gates: GateLimits = field(default_factory=GateLimits)
    part_bytes: int = 256 * 2**20
    """Size of an items file, as far as the sizes of the stage files foretell it."""
    row_group_rows: int = 1024
    """Rows of a row group in an items file: what a reader of single rows must take."""
    piece_bytes: int = 64 * 2**20
    """Size of the pieces in which vectors are written; raised where an object would have too many. At least 5 MiB."""
    sample_rows: int = 2000
    """About how many rows, chosen by a hash of their ids, are looked at together: collapse, neighbours, gallery."""
    gallery_items: int = 24
    """Rows of the sample that the report shows in full."""
    key_frames: int = 4
    """Frames of each of them; 0 fetches no video."""
    task_cpus: float = 1.0
    """CPU slots of a task."""
    task_memory_bytes: int = 0
    """Main memory of a task, as Ray counts it; 0 reserves none."""

    def __post_init__(self) -> None:
        for name in ("part_bytes", "row_group_rows", "sample_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"publish: {name} must be at least 1")
        if self.piece_bytes < 5 * 2**20:
            raise ValueError("publish: piece_bytes must be at least 5 MiB")
        if min(self.gallery_items, self.key_frames, self.task_memory_bytes) < 0 or self.task_cpus <= 0:
            raise ValueError("publish: gallery_items, key_frames, task_memory_bytes and task_cpus must not be negative")
