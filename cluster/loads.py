"""What each stage costs and takes, and a cluster that its workers may fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.order import asking_order
from cluster.packing import Need, Nodes, engines_fit, fits


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLoad:
    """What one stage costs for each item of the catalogue, and what a worker of it takes."""

    name: str
    need: Need
    seconds: float
    """Seconds of one worker."""
    cpu_seconds: float = 0.0
    """Seconds of one core: what the worker and its child processes really used."""
    start_seconds: float = 0.0
    """From asking for a worker until its model is loaded, alone."""
    start_cpu_seconds: float = 0.0
    """Seconds of one core that this takes."""
    most_workers: int | None = None
    """Workers past which there is not a block for each; None for no bound."""
    most_workers_of_texts: int | None = None
    """Likewise in a phase that reads only texts, whose blocks are larger; None for no other bound."""
    needs_decode: bool = False
    """Whether it cannot run without `decode` beside it, since frames and sound are never stored."""

    @property
    def gpu_seconds(self) -> float:
        """Seconds of one GPU. A worker alone on a GPU may keep all of it busy, however small its share of memory."""
        return self.seconds * math.ceil(self.need.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What there is to run on."""

    nodes: Nodes
    reserved: tuple[Need, ...] = ()
    """What runs beside the pools: readers."""
    cores: float | None = None
    """Real cores, where CPU slots are more than those; None for one a slot."""

    @property
    def core_count(self) -> float:
        """Cores that compute."""
        slots = sum(type_.cpus * count for type_, count in self.nodes.items())
        return slots if self.cores is None else min(self.cores, slots)

    def gpus(self, accelerator: str | None) -> int:
        """GPUs that meet a wish."""
        return sum(
            type_.gpus * count
            for type_, count in self.nodes.items()
            if accelerator is None or type_.accelerator in (None, accelerator)
        )

    def holds(self, loads: Sequence[StageLoad], workers: Mapping[str, int]) -> bool:
        """Whether so many workers fit at once, with what runs beside them, as a run asks for them."""
        return self.takes_in_order(loads, workers) and self.has_room(loads, workers)

    def has_room(self, loads: Sequence[StageLoad], workers: Mapping[str, int]) -> bool:
        """Whether there is some way to place so many workers and what runs beside them."""
        pools = [(load.need, workers[load.name]) for load in loads]
        return fits([*pools, *((need, 1) for need in self.reserved)], self.nodes)

    def takes_in_order(self, loads: Sequence[StageLoad], workers: Mapping[str, int]) -> bool:
        """Whether those with GPUs find places one after the other, as a run asks Ray for them."""
        asked = sorted(
            loads, key=lambda load: asking_order(load.name, reads_media=load.needs_decode, gpus=load.need.gpus)
        )
        return engines_fit([(load.need, workers[load.name]) for load in asked], self.nodes)

    def spills(self, loads: Sequence[StageLoad], workers: Mapping[str, int]) -> bool:
        """Whether pools without GPUs need cores of nodes with GPUs although there are nodes without."""
        without = {type_: count for type_, count in self.nodes.items() if not type_.gpus}
        pools = [(load.need, workers[load.name]) for load in loads if load.name in workers and not load.need.gpus]
        return bool(without) and len(without) < len(self.nodes) and not fits(pools, without)
