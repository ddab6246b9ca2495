"""The Ray Data graph: shards in at one end, finished rows out at the other, one actor pool a stage.

Only stages that some shard needs are in it. Shards that need no media, or whose files are all empty, take a way of
their own to `embed`, so that they never queue behind the GPU pools.
"""

import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from ray.data._internal.logical.interfaces import LogicalPlan
from ray.data._internal.logical.operators import StreamingRepartition

from pipeline.decode_worker import DecodeWorker
from pipeline.gate import GateHandle
from pipeline.gate_teller import GateTeller
from pipeline.placement import Placement
from pipeline.ray_memory import forget_blocks
from pipeline.reader import ShardReader
from pipeline.spec import Specs, StageSpec, as_asked, in_order
from pipeline.tasks import Tasks
from pipeline.worker import StageWorker
from storage.stores import StoreConfig

READERS = 2
"""Shards being read at a time; each waits at the gate with its rows in hand."""
READER_CPUS = 0.25
READ_RETRIES = 3
"""How often a reading task whose process dies is tried again in its pass; Ray Data would try it for ever."""
READ_ROWS = 64
"""Rows that one task reads at least where shards have few left: a block of one row takes 36 KiB of the driver."""
RESERVED_CPUS = READERS * READER_CPUS
"""CPU slots beside the pools: readers hold theirs while they wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """How rows are cut into blocks and how long Ray Data may wait. Never part of a fingerprint.

    Raises:
        ValueError: A number is not positive.
    """

    block_rows: int = 8
    """Rows of media in one block at most: what moves between workers, and one call of a stage without GPUs."""
    text_block_rows: int = 1024
    """Rows in one block at most where only texts are read: Ray Data moves some 20 blocks a second, whatever is in them.
    No block holds more than one task has read, which is one shard unless there are more than `max_reads`."""
    max_reads: int = 32_768
    """Reading tasks in one pass at most, which Ray holds from its start: of more shards, one task reads several."""
    task_retries: int = 1
    """How often a block whose worker died is tried again before its rows run one by one."""
    start_timeout_seconds: float = 3600.0
    """How long nothing may move while a stage has no worker that is ready: nodes and models take their time."""
    start_tries: int = 2
    """How often workers of one stage may fail to start, with none ready, before the run ends with their error: once all
    that load meanwhile have failed as well. One whose node goes while it loads has not failed."""
    stuck_seconds: float = 1800.0
    """How long nothing may move once every stage has workers: no row let in or back, no call that ends."""
    place_anew_seconds: float = 60.0
    """How long nothing may move once nodes are gone, and no worker loads or works, before the rest is placed anew."""
    shrink_seconds: float = 900.0
    """How long a pool must have had less work than workers before those that are not needed go; at least twice as
    long as its first worker took to be there."""

    def __post_init__(self) -> None:
        seconds = min(self.start_timeout_seconds, self.stuck_seconds, self.place_anew_seconds, self.shrink_seconds)
        if min(self.block_rows, self.text_block_rows, self.max_reads) < 1 or seconds <= 0:
            raise ValueError("graph: block_rows, text_block_rows, max_reads and the times must be positive")
        if self.task_retries < 0 or self.start_tries < 1:
            raise ValueError("graph: task_retries must not be negative and start_tries at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What stays the same over all passes of one phase."""

    specs: Specs
    """The whole graph: what is not pending may still be read."""
    modalities: dict[str, str]
    """Stage to stream, for every stage of the run."""
    output_uri: str
    catalog_revision: int
    gate: GateHandle
    config: GraphConfig
    store: StoreConfig
    placements: Mapping[str, Placement] = field(default_factory=dict)
    """Stage to where its workers go; wherever there is room for those that are not in it."""

    def build(self, tasks: Tasks, *, one_by_one: bool = False) -> Dataset:
        """The graph over the given shards.

        Args:
            tasks: The shards, in the order in which to run them.
            one_by_one: Blocks of one row, one call at a time in each worker and no retries: what kills a worker now is
                the row that it was running.
        """
        media, texts = self._split(tasks)
        branches: list[Dataset] = []
        if len(media):
            dataset = self._read(media, 1 if one_by_one else self.config.block_rows)
            for spec in self.media_stages(media):
                dataset = self._stage(dataset, spec, media, one_by_one)
            branches.append(dataset)
        if len(texts):
            branches.append(self._read(texts, 1 if one_by_one else self.config.text_block_rows))
        dataset = branches[0].union(*branches[1:]) if len(branches) > 1 else branches[0]
        for spec in self._text_stages(tasks):
            dataset = self._stage(dataset, spec, tasks, one_by_one)
        return dataset

    def reader(self) -> ShardReader:
        """What turns a shard into lines, for this graph."""
        return ShardReader(
            output_uri=self.output_uri,
            catalog_revision=self.catalog_revision,
            specs={name: spec.unbuildable() for name, spec in self.specs.items()},
            gate=self.gate,
            store=self.store,
        )

    def media_stages(self, tasks: Tasks) -> list[StageSpec]:
        """The stages that work on frames or sound, `decode` first, wherever one of them is pending."""
        pending = {stage for stage in tasks.stages() if self.specs[stage].is_media}
        return as_asked(self.specs[stage] for stage in in_order(pending | ({"decode"} if pending else set())))

    def stages(self, tasks: Tasks) -> list[str]:
        """Names of the stages that run over these shards, upstream first."""
        media, _ = self._split(tasks)
        return [spec.name for spec in (*self.media_stages(media), *self._text_stages(tasks))]

    def _split(self, tasks: Tasks) -> tuple[Tasks, Tasks]:
        """The shards whose bytes are looked at, and the others."""
        return tasks.split([name for name, spec in self.specs.items() if spec.is_media])

    def _text_stages(self, tasks: Tasks) -> list[StageSpec]:
        pending = tasks.stages()
        return [spec for name, spec in self.specs.items() if name in pending and not spec.is_media]

    def _read(self, tasks: Tasks, block_rows: int) -> Dataset:
        reader = self.reader()
        size = -(-len(tasks) // self.config.max_reads)
        together = tasks.groups(shards=size, rows=min(block_rows, READ_ROWS))
        groups = [{"tasks": pickle.dumps(group)} for group in together]
        shards = ray.data.from_items(groups, override_num_blocks=len(groups))
        readers = TaskPoolStrategy(size=min(READERS, len(groups)))
        lines = shards.map_batches_internal(  # as in `_stage`
            lambda batch: reader(batch),
            batch_size=None,
            batch_format="numpy",
            compute=readers,
            num_cpus=READER_CPUS,
            max_retries=READ_RETRIES,
        )
        return _in_blocks(lines, block_rows, readers)

    def _stage(self, dataset: Dataset, spec: StageSpec, tasks: Tasks, one_by_one: bool) -> Dataset:
        worker: type[StageWorker] | type[DecodeWorker]
        arguments: dict[str, Any]
        if spec.name == "decode":
            worker, arguments = DecodeWorker, {"modalities": self.modalities}
        else:
            worker, arguments = StageWorker, self._drops(spec, tasks)
        calls = 1 if one_by_one else spec.pool.calls
        placement = self.placements.get(
            spec.name, Placement(max_actors=spec.pool.max_actors, initial_actors=spec.pool.min_actors)
        )
        return dataset.map_batches_internal(  # `map_batches` deprecates what it has no name for: the retries
            type(spec.name, (worker,), {}),  # Ray Data's operators, metrics and actors bear the class's name
            fn_constructor_args=(spec,),
            fn_constructor_kwargs={**arguments, "teller": GateTeller(self.gate), "one_by_one": one_by_one},
            batch_size=self._call_rows(spec, one_by_one),
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=spec.pool.min_actors,
                max_size=placement.max_actors,
                initial_size=spec.pool.min_actors if one_by_one else placement.initial_actors,
                max_tasks_in_flight_per_actor=1 if one_by_one else 2 * calls,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=calls > 1,
            ),
            num_cpus=spec.pool.num_cpus,
            num_gpus=asked_gpus(spec.pool.num_gpus) or None,
            memory=spec.pool.memory_bytes or None,
            label_selector=dict(placement.label_selector) or None,
            max_task_retries=0 if one_by_one else self.config.task_retries,
        )

    @staticmethod
    def _call_rows(spec: StageSpec, one_by_one: bool) -> int | None:
        """Rows a call; None for the whole block. To a number Ray Data joins blocks, so that at most one row less waits
        for others, until there is no more input; where a worker has GPUs it asks for one."""
        if spec.is_media and not spec.pool.num_gpus:
            return None
        return 1 if one_by_one else spec.pool.batch_rows

    def _drops(self, spec: StageSpec, tasks: Tasks) -> dict[str, Any]:
        """A stage drops the stream it takes when no later stage of the graph takes it too."""
        if not spec.is_media:
            return {}
        later = self.media_stages(tasks)
        later = later[later.index(spec) + 1 :]
        return {
            "drop_frames": all(stage.modality != "video" for stage in later),
            "drop_audio": all(stage.modality != "audio" for stage in later),
        }


def _in_blocks(lines: Dataset, rows: int, readers: TaskPoolStrategy) -> Dataset:
    """Blocks of at most so many rows, cut by the tasks that read them.

    `Dataset.repartition` makes the same operator, but with tasks of its own, each on a whole CPU slot. Ray Data fuses
    it with the reading where both take the same resources and as many tasks at a time.
    """
    cut = StreamingRepartition(
        target_num_rows_per_block=rows,
        input_dependencies=[lines._logical_plan.dag],
        compute=readers,
        ray_remote_args={"num_cpus": READER_CPUS, "max_retries": READ_RETRIES},
    )
    return Dataset._from_parent(lines, LogicalPlan(cut, lines.context))


def asked_gpus(num_gpus: float) -> float:
    """GPUs of one worker as Ray is asked for them: of a share the smallest part less that Ray counts.

    Ray's autoscaler (2.60, source: `autoscaler/v2/scheduler.py`) takes shares off a GPU in floating point: 0.52, 0.32,
    0.08, 0.04 and 0.04 do not fit one, and a node more would be started for the last.
    """
    return round(num_gpus - 1e-4, 4) if 2e-4 <= num_gpus < 1 else num_gpus


def configure_ray_data(config: GraphConfig) -> None:
    """Sets Ray Data up for rows that may fail: a lost block is counted by the driver, not fatal."""
    context = DataContext.get_current()
    forget_blocks(context)
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = -1  # the gate counts them, and knows their errors
    context.execution_no_progress_timeout_s = -1  # pipeline.watchdog knows which stage it is
    context.enable_rich_progress_bars = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    # Ray Data would let a worker that has loaded a model for a minute go in the first moment in which its pool is less
    # than half busy: pipeline.pool_sizes judges by minutes.
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1.0
    # A hundred lines for each lost block; what matters of it, the driver says in its own words.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # It speaks of workers that a stage cannot use: shards may have no row left for it.
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors for ", UserWarning)
