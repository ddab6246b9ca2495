"""Which stages run together: all of them where the cluster can hold one worker of each, else a few at a time."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.capacity import Capacity
from cluster.nodes import Cluster
from pipeline.graph import RESERVED_CPUS
from pipeline.in_flight import InFlight
from pipeline.placement import Placement, place, place_all, pools_fit
from pipeline.spec import Specs, as_asked, select_specs
from records.errors import UserError

logger = logging.getLogger(__name__)


def make_phases(specs: Specs, selected: Sequence[str], cluster: Cluster) -> list[list[str]]:
    """Groups the stages, upstream first, so that each group's smallest pools fit the cluster at once.

    Decode is in every group that needs media, since frames and sound are never stored.

    Raises:
        UserError: A single stage (with decode beside it) asks for more than there is.
    """
    phases: list[list[str]] = []
    for name in selected:
        if name == "decode":
            continue
        alone = [other for other in ("decode", name) if other == name or specs[name].is_media]
        if phases and _holds(specs, [*phases[-1], *alone], cluster):
            phases[-1] += [stage for stage in alone if stage not in phases[-1]]
        elif _holds(specs, alone, cluster):
            phases.append(alone)
        else:
            for stage in alone:
                place(stage, specs[stage].pool, cluster)  # names the GPU that no node has, or the largest node
            beside = " and ".join([*alone[:-1], "reading"])
            needed = f"{name}, with {beside} beside it, needs {_total(specs, alone)}"
            raise UserError(f"{needed}; the cluster has {cluster.capacity()}")
    return phases or [list(selected)]


def place_stages(
    specs: Specs, stages: Iterable[str], cluster: Cluster, rows: int, in_flight: InFlight
) -> dict[str, Placement]:
    """Where the workers of these stages go, beside readers, to run so many rows; no more than can have work at once.

    Decode has a place wherever a stage needs media: it runs again although its own table is finished.

    Raises:
        UserError: As `pipeline.placement.place`.
    """
    beside = Capacity(cpus=RESERVED_CPUS, gpus=0, memory_bytes=0)
    placed = select_specs(specs, stages)
    texts = not any(spec.is_media for spec in placed.values())
    most = {name: in_flight.most(spec, rows, of_texts=texts) for name, spec in placed.items()}
    return place_all({spec.name: spec.pool for spec in as_asked(placed.values())}, cluster, beside=beside, most=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placer:
    """Places the stages of one phase, alone on the cluster as it is when asked: those of other phases do not live."""

    specs: Specs
    rows: int
    """Items that the run has to do."""
    in_flight: InFlight
    whole: Callable[[], Cluster]
    """The live nodes and all that groups may grow to."""
    live: Callable[[], Cluster]
    """The live nodes alone."""

    def begin(self, stages: Sequence[str]) -> dict[str, Placement]:
        """As `place_stages`; says so where not all of these workers can have rows."""
        placed = place_stages(self.specs, stages, self.whole(), self.rows, self.in_flight)
        begin = {name: placement.initial_actors for name, placement in placed.items()}
        named = ", ".join(f"{name} {count}" for name, count in begin.items())
        logger.info("workers of %s to begin with: %s", "+".join(stages), named)
        if (shortage := self.in_flight.shortage(self.specs, begin, self.rows)) is not None:
            logger.warning("%s", shortage)
        return placed

    def anew(self, stages: Iterable[str], before: Mapping[str, Placement]) -> Mapping[str, Placement]:
        """As `place_anew`; as before where a stage has no node now: its workers wait for one, as at the start."""
        try:
            return place_anew(self.specs, stages, self.whole(), self.live(), self.rows, self.in_flight)
        except UserError as error:
            logger.warning("waiting for nodes: %s", error)
            return before

    def phases(self, planned: Sequence[Sequence[str]], needed: Sequence[str]) -> list[list[str]]:
        """The phases planned where the smallest pools of each fit this cluster, else as `make_phases` cuts them.

        Raises:
            UserError: As `make_phases` and `place_stages`: what fits nowhere is told before anything starts.
        """
        cluster = self.whole()
        fit = len(planned) > 0 and all(
            _holds(self.specs, select_specs(self.specs, stages), cluster) for stages in planned
        )
        phases = [list(stages) for stages in planned] if fit else make_phases(self.specs, needed, cluster)
        for stages in phases:
            place_stages(self.specs, stages, cluster, self.rows, self.in_flight)
        if len(phases) > 1:
            why = "as planned" if fit else "this cluster cannot hold a worker of every stage at once"
            named = " then ".join("+".join(phase) for phase in phases)
            logger.warning("%s: running %d phases, %s", why, len(phases), named)
        return phases


def place_anew(
    specs: Specs,
    stages: Iterable[str],
    whole: Cluster,
    live: Cluster,
    rows: int,
    in_flight: InFlight,
) -> dict[str, Placement]:
    """The same once nodes are gone: pools may grow to what there may be again, and begin with what lives.

    Args:
        whole: The live nodes and all that groups may grow to.
        live: The live nodes alone.

    Raises:
        UserError: As `place_stages`, of the whole.
    """
    names = list(stages)
    placements = place_stages(specs, names, whole, rows, in_flight)
    try:
        now = place_stages(specs, names, live, rows, in_flight)
    except UserError:
        return placements
    begin = {name: min(placements[name].initial_actors, now[name].initial_actors) for name in placements}
    return {name: replace(placement, initial_actors=begin[name]) for name, placement in placements.items()}


def _holds(specs: Specs, stages: Iterable[str], cluster: Cluster) -> bool:
    """Whether the smallest pools of these stages fit at once, each share of a GPU on one GPU."""
    wanted = set(stages)
    here = {spec.name: spec.pool for spec in as_asked(specs.values()) if spec.name in wanted}
    smallest = {name: (pool.min_actors, pool) for name, pool in here.items()}
    return cluster.capacity().holds(_total(specs, here)) and pools_fit(smallest, cluster)


def _total(specs: Specs, stages: Iterable[str]) -> Capacity:
    """What the smallest pools of these stages take, and what runs beside them."""
    pools = [specs[stage].pool for stage in stages]
    return Capacity(
        cpus=RESERVED_CPUS + sum(pool.min_actors * pool.num_cpus for pool in pools),
        gpus=sum(pool.min_actors * pool.num_gpus for pool in pools),
        memory_bytes=sum(pool.min_actors * pool.memory_bytes for pool in pools),
    )
