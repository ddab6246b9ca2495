"""`python -m jobs.plan`: what a run will take and cost, from a sample that really runs, and a plan file for it."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from rich.console import Console

from cluster.loads import Cluster, StageLoad
from cluster.packing import Nodes
from cluster.prices import PriceTable, check_holds, read_cluster, read_prices
from cluster.sizing import size_pools
from jobs.cli import (
    EXIT_CODES,
    add_config_arguments,
    add_source_arguments,
    config_of,
    console_and_logging,
    end_process,
    parser,
    positive,
    run_command,
    stage_names,
)
from jobs.listing import list_into_catalog
from jobs.plan_table import draw_plan
from pipeline.assemble import build_specs
from pipeline.cluster_view import connected_nodes
from pipeline.cluster_view import read_cluster as read_connected
from pipeline.config import RunConfig
from pipeline.in_flight import InFlight
from pipeline.limits import parse_deadline
from pipeline.placement import place
from pipeline.planning import (
    RESERVED,
    Planned,
    PlanRequest,
    accelerator_of,
    bare_loads,
    plan_run,
)
from pipeline.probe import Probe, ProbeResult
from pipeline.progress import clock
from pipeline.ray_session import ray_session
from pipeline.reader import ShardReader
from pipeline.run import new_run_id
from pipeline.run_plan import FOLDER, ClusterPrices
from pipeline.sample import sample_lines
from pipeline.spec import Specs, select_specs
from pipeline.unfinished import count_to_do, unfinished_plan
from records.errors import UserError
from records.flow import FlowRow
from storage.catalog import Catalog
from storage.leases import Lease
from storage.stores import Store

CONNECTED = "connected"
PLAIN_WIDTH = 140
"""Columns where the output goes to a file or a pipe."""

EXAMPLES = f"""\
  python -m jobs.plan --source s3://clips/2026 --output s3://features/clips --recipe modern
  python -m jobs.plan --output s3://features/clips --recipe modern --prices prices.yaml --deadline 12h
  python -m jobs.plan --output s3://features/clips --recipe modern --prices prices.yaml --cluster cluster.yaml
  python -m jobs.annotate --output s3://features/clips --plan s3://features/clips/plans/20261126T101500-3f2a1c.yaml

A sample of what is pending runs through the real stages, one after the other, on the cluster that this command is
connected to. It commits nothing. cluster/prices.example.yaml and cluster/cluster.example.yaml show the two files.
{EXIT_CODES}"""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as that needs no file."""
    arguments = parser("plan", "Runs a sample, and says what the rest will take, on which pools, and cost.", EXAMPLES)
    add_source_arguments(arguments)
    arguments.add_argument("--output", metavar="URI", required=True, help="where the catalog and all results lie")
    arguments.add_argument("--metadata", metavar="URI", help="CSV, JSON Lines or Parquet with video_id, title, …")
    add_config_arguments(arguments)
    arguments.add_argument(
        "--stages", type=stage_names, metavar="a,b", help="plan only these stages (and decode where they need it)"
    )
    arguments.add_argument("--sample", type=positive, default=64, metavar="N", help="items to run; 64 unless given")
    arguments.add_argument("--seed", type=int, default=0, help="which sample is drawn")
    arguments.add_argument("--prices", metavar="FILE", help="your price table, as cluster/prices.example.yaml")
    arguments.add_argument(
        "--cluster",
        metavar="FILE",
        help=f"nodes to plan for, as cluster/cluster.example.yaml, or `{CONNECTED}`; without it the cheapest that "
        "meets --deadline, or else the connected one",
    )
    arguments.add_argument(
        "--deadline",
        metavar="WHEN",
        help="when all must be done (2026-11-27T06:00, 06:00), or within what (6h) once the sample has run",
    )
    arguments.add_argument("--verbose", action="store_true", help="log more")
    return arguments.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Lists where that is needed, probes, plans, prints and writes."""
    options, asked = options_of(argv), datetime.now(UTC)
    config = config_of(options)
    console_and_logging(verbose=options.verbose)
    prices = read_prices(options.prices) if options.prices else None
    nodes = _named_cluster(options, prices)
    if options.deadline is not None:
        parse_deadline(options.deadline, asked)  # a wrong one costs no probe
    specs = build_specs(config)
    selected = select_specs(specs, options.stages)
    store = Store.open(options.output, retry=config.store.retry, limits=config.store.limits)
    plan_id = new_run_id()
    catalog = _listed(store, options, config, plan_id)
    pending = unfinished_plan(store, catalog, specs, list(selected))
    reader = ShardReader(
        output_uri=options.output, catalog_revision=catalog.revision, specs=specs, gate=None, store=config.store
    )
    to_do = count_to_do(pending, catalog.live_counts(), specs, reader.lines)
    rows = to_do.rows
    if not rows and pending.blocked:
        waiting = ", ".join(f"{stage} in {count} shards" for stage, count in pending.blocked.items())
        raise UserError(f"what {waiting} would read is not there yet: name those stages in --stages as well")
    if not rows:
        print(f"Nothing left to do: all {catalog.item_count} items are done, so that there is nothing to plan.")
        return 0
    in_flight = InFlight.of(pending, catalog.live_counts(), config.graph, config.gate)
    bare = bare_loads(specs, rows, in_flight)
    _check_fits(options, bare, prices, nodes)
    lines = sample_lines(pending, to_do.items, reader.lines, options.sample, options.seed)
    probed = _probed(config, {name: specs[name] for name in rows}, selected, bare, lines)
    deadline = left_seconds(options.deadline, asked, datetime.now(UTC)) if options.deadline is not None else None
    own = nodes is None and (deadline is None or options.cluster == CONNECTED)
    request = PlanRequest(
        plan_id=plan_id,
        recipe=options.recipe or "",
        rows=rows,
        nodes=probed.nodes if own else nodes,
        cores=probed.cores if own else None,
        deadline_seconds=deadline,
        prices=prices,
        seed=options.seed,
    )
    planned = plan_run(request, specs, in_flight, probed.result, probed.accelerators)
    _say(options, store, planned, probed, request)
    return 0


def left_seconds(deadline: str, asked: datetime, now: datetime) -> float:
    """Seconds that a run has which begins now: of a moment what is left of it, a duration as long as it is.

    Args:
        deadline: As `parse_deadline` takes it.
        asked: When it was given: a time of day is the next one from there.
        now: When the probe is over.

    Raises:
        UserError: The moment is over.
    """
    seconds = parse_deadline(deadline, asked)
    if parse_deadline(deadline, asked - timedelta(seconds=1)) == seconds:
        return seconds  # whenever it is asked for: a duration
    left = seconds - (now - asked).total_seconds()
    if left <= 0:
        raise UserError(f"--deadline {deadline}: that passed while the sample ran; a smaller --sample takes less time")
    return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a probe measured, and on what."""

    result: ProbeResult
    nodes: Nodes
    """The cluster it ran on."""
    cores: float | None
    accelerators: Mapping[str, str | None]
    """Stage to the GPU it ran on."""


def _probed(
    config: RunConfig, specs: Specs, selected: Specs, bare: Sequence[StageLoad], lines: Sequence[FlowRow]
) -> Probed:
    """Runs the probe on the connected cluster, or in this process.

    Raises:
        UserError: No node there holds a worker of some stage.
    """
    modalities = {name: str(spec.modality) for name, spec in selected.items() if spec.modality}
    with ray_session(config.local_ray, config.graph):
        nodes, cores = connected_nodes(config.node_groups)
        for load in bare:
            check_holds(load.name, load.need, list(nodes), "of the connected cluster, where the probe runs,")
        cluster = read_connected(config.node_groups)
        # One worker of each stage is enough here, whatever the pools of the run will be.
        where = {name: place(name, replace(spec.pool, min_actors=1), cluster) for name, spec in specs.items()}
        selectors = {name: placement.label_selector for name, placement in where.items()}
        result = Probe(specs, modalities, config.graph, config.embed.dtype, selectors).run(lines)
        accelerators = {name: accelerator_of(one.node_id) for name, one in result.stages.items()}
    return Probed(result=result, nodes=nodes, cores=cores, accelerators=accelerators)


def _say(options: argparse.Namespace, store: Store, planned: Planned, probed: Probed, request: PlanRequest) -> None:
    """Writes the plan and prints it.

    Raises:
        UserError: It may miss the deadline.
    """
    path = f"{FOLDER}{planned.plan.plan_id}.yaml"
    store.create(path, planned.plan.as_yaml().encode())
    draw_plan(
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH),
        planned,
        probed.result,
        probe_prices=ClusterPrices.of(probed.nodes, request.prices) if request.prices is not None else None,
        deadline_seconds=request.deadline_seconds,
    )
    print(f"Run it       {run_command_of(options, store.uri(path))}")
    slowest = planned.plan.seconds.high
    if request.deadline_seconds is not None and slowest > request.deadline_seconds:
        raise UserError(
            f"--deadline {options.deadline}: this cluster may take {clock(slowest)}; without "
            "--cluster, the cheapest that is fast enough is chosen from --prices"
        )


def _named_cluster(options: argparse.Namespace, prices: PriceTable | None) -> Nodes | None:
    """The nodes of the file that `--cluster` names, or None.

    Raises:
        UserError: What is asked for needs a price table.
    """
    if prices is None and options.cluster is None and options.deadline is not None:
        raise UserError("--deadline chooses among the node types of --prices: give that, or --cluster")
    if options.cluster is None or options.cluster == CONNECTED:
        return None
    if prices is None:
        raise UserError("--cluster names node types of the price table: --prices is missing")
    return read_cluster(options.cluster, prices)


def _check_fits(
    options: argparse.Namespace, bare: Sequence[StageLoad], prices: PriceTable | None, nodes: Nodes | None
) -> None:
    """Refuses what no node that is asked for holds, before it costs a probe.

    Raises:
        UserError: Some stage fits none.
    """
    if prices is not None and options.cluster != CONNECTED and (options.cluster or options.deadline is not None):
        prices.usable(bare)
    if nodes is not None:
        size_pools(bare, Cluster(nodes=nodes, reserved=RESERVED), 1)


def run_command_of(options: argparse.Namespace, plan: str) -> str:
    """The command that runs a plan: with what it was made with, but for the pool sizes that it replaces."""
    words = ["python", "-m", "jobs.annotate", "--output", options.output, "--plan", plan]
    words += ["--config", options.config] if options.config else []
    words += ["--stages", ",".join(options.stages)] if options.stages else []
    for setting in options.settings:
        if not setting.partition("=")[0].strip().endswith((".pool.min_actors", ".pool.max_actors")):
            words += ["--set", setting]
    return shlex.join(words)


def _listed(store: Store, options: argparse.Namespace, config: RunConfig, plan_id: str) -> Catalog:
    """The catalog; the source is listed, under the output's lease, where there is none or metadata comes in."""
    catalog = Catalog.open(store)
    if catalog is None or options.metadata is not None:
        with Lease.acquire(store, plan_id) as lease:
            list_into_catalog(
                store,
                source=options.source,
                source_format=options.format,
                columns=options.columns,
                metadata=options.metadata,
                shard_size=config.shard_size,
                refresh_known=False,
                check=lease.check,
            )
        catalog = Catalog.open(store)
    assert catalog is not None, "it was listed just now"
    if not catalog.item_count:
        raise UserError(f"{store.root}: the catalog is empty, there is nothing to plan")
    return catalog


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
