"""What a cluster has, and whether something fits it: pure arithmetic, no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass

_SLACK = 1e-6
"""Ray counts in ten-thousandths; shares of a GPU that make a whole one may add up to a little more as floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a cluster has, as Ray counts it."""

    cpus: float
    gpus: float
    memory_bytes: float

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> "Capacity":
        """From `ray.cluster_resources()`."""
        return cls(cpus=resources.get("CPU", 0), gpus=resources.get("GPU", 0), memory_bytes=resources.get("memory", 0))

    def holds(self, needed: "Capacity") -> bool:
        """Whether all of `needed` is there at once."""
        enough = needed.cpus <= self.cpus + _SLACK and needed.gpus <= self.gpus + _SLACK
        return enough and needed.memory_bytes <= self.memory_bytes

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs, {self.gpus:g} GPUs and {self.memory_bytes / 2**30:.1f} GiB"
