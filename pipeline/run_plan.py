"""A plan of a run as a file: pool sizes and phases for `jobs.annotate --plan`, and what they were predicted to give."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from cluster.estimate import Interval
from cluster.packing import Nodes
from cluster.prices import PriceTable
from pipeline.spec import Specs
from records.errors import TransientError, UserError
from records.yaml_text import load_yaml
from storage.stores import Store

FOLDER = "plans/"
_HEAD = "# Made by `python -m jobs.plan`, whose last line runs it: with the same --config, --set and --stages.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePrediction:
    """What one stage was measured to take, and what it gets."""

    items: int
    """Items that it has to do."""
    workers: int
    seconds_per_item: Interval
    """Seconds of one worker."""
    busy_share: float
    """Of its workers' time, while its phase runs."""
    output_bytes_per_item: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPrices:
    """What the nodes of a cluster cost."""

    currency: str
    cluster_per_hour: float
    gpu_per_hour: float
    """All that nodes with GPUs cost, for each of their GPUs."""
    cpu_per_hour: float
    """All that nodes without GPUs cost, for each of their CPUs; 0 where there are none: a GPU's price has its CPUs."""

    @classmethod
    def of(cls, nodes: Nodes, table: PriceTable) -> "ClusterPrices | None":
        """The prices of these nodes; None where the table does not know one of them."""
        whole = table.price_per_hour(nodes)
        with_gpus = {type_: count for type_, count in nodes.items() if type_.gpus}
        without = {type_: count for type_, count in nodes.items() if not type_.gpus}
        of_gpus, of_cpus = table.price_per_hour(with_gpus), table.price_per_hour(without)
        if whole is None or of_gpus is None or of_cpus is None:
            return None
        gpus = sum(type_.gpus * count for type_, count in with_gpus.items())
        cpus = sum(type_.cpus * count for type_, count in without.items())
        return cls(
            currency=table.currency,
            cluster_per_hour=whole,
            gpu_per_hour=of_gpus / gpus if gpus else 0.0,
            cpu_per_hour=of_cpus / cpus if cpus else 0.0,
        )

    def for_nodes(self, nodes: Nodes) -> "ClusterPrices | None":
        """The same prices of other nodes; None where a sort has none: GPUs, or the CPUs of those without."""
        known = all(self.of_nodes({node: 1}) for node in nodes)
        return dataclasses.replace(self, cluster_per_hour=self.of_nodes(nodes)) if known else None

    def of_nodes(self, nodes: Nodes) -> float:
        """What these nodes cost an hour, each by its GPUs, or by its CPUs where it has none."""
        rates = {node: node.gpus * self.gpu_per_hour if node.gpus else node.cpus * self.cpu_per_hour for node in nodes}
        return sum(rates[node] * count for node, count in nodes.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Sizes and prediction."""

    plan_id: str
    recipe: str
    items: int
    """Items that had something to do."""
    sample_items: int
    fingerprints: Mapping[str, str]
    nodes: Mapping[str, int]
    phases: Sequence[Sequence[str]]
    overrides: Mapping[str, Mapping[str, Mapping[str, int | str]]]
    """Overrides of the config: stage to `pool` to its settings."""
    bottleneck: str
    stages: Mapping[str, StagePrediction]
    seconds: Interval
    items_per_second: Interval
    gpu_hours: Interval
    cost: Interval | None = None
    prices: ClusterPrices | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    def as_yaml(self) -> str:
        """The file."""
        config = ConfigDict(ser_json_inf_nan="constants")  # a rate has no upper end where an item may cost nothing
        plain = TypeAdapter(dict[str, Any], config=config).dump_python(dataclasses.asdict(self), mode="json")
        return _HEAD + yaml.safe_dump(plain, sort_keys=False, width=120)

    def check(self, specs: Specs) -> None:
        """Sees that the plan was made for these stages.

        Raises:
            UserError: One of them has another fingerprint.
        """
        for stage, fingerprint in self.fingerprints.items():
            if stage not in specs or specs[stage].fingerprint != fingerprint:
                raise UserError(
                    f"--plan {self.plan_id} was made for another {stage}: give the --config and --set that it was made "
                    "with, or plan again"
                )


def money(amount: float) -> str:
    """An amount with its cents; with two digits where that would show a small run as free."""
    return f"{amount:.2f}" if amount >= 0.1 or not amount else f"{amount:.2g}"


def planned_phases(plan: RunPlan | None, needed: Sequence[str]) -> list[list[str]]:
    """The phases of a plan that has several and holds every stage that has work; else none: all at once, if it fits.

    Args:
        plan: The plan, if there is one.
        needed: The stages that have work.
    """
    if plan is None or len(plan.phases) < 2 or not set(needed) <= set().union(*plan.phases):
        return []
    return [kept for phase in plan.phases if (kept := [stage for stage in phase if stage in needed])]


def read_plan(place: str) -> RunPlan:
    """The plan at a path or URI.

    Raises:
        UserError: It is not there, or no plan.
    """
    folder, slash, name = place.rpartition("/")
    try:
        text = Store.open(folder + slash if slash else ".").read_bytes(name).decode()
        return TypeAdapter(RunPlan).validate_python(load_yaml(text))
    except FileNotFoundError:
        raise UserError(f"--plan {place}: there is no such file") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        wrong = f": {where}: {first['msg'].lower()}" if where else ""
        raise UserError(f"--plan {place} is no plan of jobs.plan{wrong}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--plan {place} is no plan of jobs.plan: {str(error).splitlines()[0]}") from None
    except TransientError as error:
        raise UserError(f"--plan {place}: {error}") from None
