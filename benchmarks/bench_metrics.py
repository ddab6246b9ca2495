"""What metrics cost the driver: CPU time of saying once a second how far it has come, and of saying so for each row.

    python -m benchmarks.bench_metrics [rows a second]

Both go into Ray's own metrics on a Ray that runs in this process; CPU seconds, so that other work does not count.
"""

import sys
import time
from collections.abc import Callable

from pipeline.graph import GraphConfig
from pipeline.limits import Limits
from pipeline.metrics import Publisher
from pipeline.pool_watch import PoolWorkers
from pipeline.progress import Snapshot
from pipeline.ray_session import LocalRayConfig, ray_session
from pipeline.run_metrics import ITEMS, driver_readings
from pipeline.stats import StageStats
from records.outcomes import STAGES

SECONDS = 50
"""Of a run."""
DRIVER_ROWS_PER_SECOND = 1_700
"""What one driver commits (`benchmarks/bench_commit.py`)."""
KINDS = ("corrupt", "timeout", "throttled", "not_found")


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU seconds of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main(rows_per_second: int) -> None:
    stages = {stage: StageStats() for stage in STAGES}
    limits = Limits()

    pools = dict.fromkeys(STAGES, PoolWorkers(working=64))

    def count_rows() -> None:
        for stats in stages.values():
            stats.results += rows_per_second
            stats.busy_seconds += 1.0
            stats.prompt_tokens += 1000
            stats.output_tokens += 100
            for kind in KINDS:
                stats.errors[kind] += 1

    def once_a_second() -> None:
        publisher = Publisher(("bench",))
        for second in range(SECONDS):
            count_rows()
            now = Snapshot(
                title="bench",
                shards_done=second,
                shards=SECONDS,
                rows=second * rows_per_second,
                expected_rows=SECONDS * rows_per_second,
                failed_rows=0,
                errors={},
                stopping=None,
            )
            publisher.publish(driver_readings(now, stages, pools, limits, rows_unsaved=0, commit_lag_seconds=1.0))

    def each_row() -> None:
        publisher = Publisher(("bench-rows",))
        for row in range(rows_per_second):
            publisher.publish([(ITEMS, (stage,), row + 1) for stage in STAGES])

    with ray_session(LocalRayConfig(), GraphConfig()):
        tick = cpu_seconds(once_a_second) / SECONDS
        rows = cpu_seconds(each_row)
    print(f"once a second: {tick * 1e3:.2f} ms of CPU, {tick:.2%} of a core")
    print(f"for each row, one metric of six stages, {rows_per_second} rows: {rows * 1e3:.0f} ms, {rows:.1%} of a core")
    print(f"ratio {rows / tick:.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRIVER_ROWS_PER_SECOND)
