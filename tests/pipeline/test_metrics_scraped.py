"""A real run on a Ray whose endpoint is scraped: every metric is there, with the numbers of the run's own report."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.decode_config import DecodeConfig
from jobs.listing import list_into_catalog
from pipeline.builders import build_decode
from pipeline.metrics import BYTES_READ
from pipeline.report import RunReport
from pipeline.run_metrics import (
    BUSY_SECONDS,
    DRIVER_METRICS,
    ERRORS,
    ITEMS,
    ROWS,
    ROWS_OUT,
    SHARDS,
    STREAM_ERRORS,
    TOKENS,
)
from records.errors import Failure
from records.items import Row
from records.outcomes import Caption
from storage.fetch import FetchConfig
from storage.stores import Store
from tests.actors.test_decode_audio import broken
from tests.clips import clip_bytes
from tests.cluster.files import DASHBOARD
from tests.pipeline.light_stages import LightCaption, light_specs
from tests.pipeline.runs import run_light
from tests.pipeline.scraping import Scrape, until

pytestmark = pytest.mark.engine


class Wordy(LightCaption):
    """Says how many tokens it took."""

    def __call__(self, rows: Sequence[Row]) -> list[Caption | Failure]:
        return [replace(one, prompt_tokens=7, output_tokens=3) for one in map(self._one, rows)]


@dataclass(frozen=True, slots=True)
class Watched:
    """A run, its report and what was scraped before and after."""

    report: RunReport
    source: Path
    before: Scrape
    after: Scrape

    def grown(self, name: str, **labels: str) -> float:
        return self.after.total(name, **labels) - self.before.total(name, **labels)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, light_ray: None) -> Watched:
    """Good clips, one without a whole sound and one that is no clip: fetched and decoded in earnest."""
    folder = tmp_path_factory.mktemp("metrics")
    source, output = folder / "source", folder / "out"
    source.mkdir()
    for number in range(6):
        (source / f"good-{number}.mp4").write_bytes(clip_bytes(seconds=1.0))
    (source / "half.mp4").write_bytes(broken(clip_bytes(seconds=4.0), "audio", 0.5))
    (source / "none.mp4").write_bytes(b"this is no video" * 100)
    store = Store.open(str(output))
    list_into_catalog(store, source=str(source), metadata=None, shard_size=4, refresh_known=False)
    specs = dict(light_specs(folder / "reads"))
    specs["decode"] = replace(specs["decode"], build=partial(build_decode, DecodeConfig(max_frames=4), FetchConfig()))
    specs["caption"] = replace(specs["caption"], build=Wordy)
    before = Scrape.now()
    report = run_light(output, specs)
    size = sum(file.stat().st_size for file in source.iterdir())

    expected = asked_by_the_dashboard()

    def all_there(scrape: Scrape) -> bool:
        read = scrape.total(BYTES_READ.exported_name) - before.total(BYTES_READ.exported_name)
        embedded = scrape.total(ITEMS.exported_name, run_id=report.run_id, stage="embed")
        rows, shards = (scrape.total(metric.exported_name, run_id=report.run_id) for metric in (ROWS, SHARDS))
        counted = (rows, embedded, shards) == (8, 8, 2) and read >= size
        return counted and expected <= scrape.names  # each process reports when its own interval is over

    return Watched(report, source, before, until(Scrape.now, all_there))


def test_every_metric_is_there_under_its_name(watched: Watched) -> None:
    assert {metric.exported_name for metric in (*DRIVER_METRICS, BYTES_READ)} <= watched.after.names


def test_items_errors_and_tokens_are_those_of_the_report(watched: Watched) -> None:
    run_id = watched.report.run_id
    for stage, stats in watched.report.stages.items():
        tags = {"run_id": run_id, "stage": stage}
        assert watched.after.total(ITEMS.exported_name, **tags) == stats.results > 0
        assert watched.after.total(ERRORS.exported_name, **tags) == stats.failed
        assert watched.after.total(BUSY_SECONDS.exported_name, **tags) == pytest.approx(stats.busy_seconds)
        for kind, count in stats.errors.items():
            assert watched.after.total(ERRORS.exported_name, kind=kind, **tags) == count
        for kind, count in stats.stream_errors.items():
            assert watched.after.total(STREAM_ERRORS.exported_name, kind=kind, **tags) == count
    captioned = watched.report.stages["caption"].results
    tokens = partial(watched.after.total, TOKENS.exported_name, run_id=run_id, stage="caption")
    assert (tokens(direction="prompt"), tokens(direction="output")) == (7 * captioned, 3 * captioned)
    assert watched.report.stages["caption"].errors == watched.report.stages["decode"].stream_errors == {"corrupt": 1}
    assert watched.after.total(SHARDS.exported_name, run_id=run_id) == 2
    assert watched.after.total(ROWS_OUT.exported_name, run_id=run_id) == 0


def test_the_bytes_read_are_those_of_the_files(watched: Watched) -> None:
    assert watched.grown(BYTES_READ.exported_name) == sum(file.stat().st_size for file in watched.source.iterdir())


def test_ray_datas_own_metrics_bear_the_stages_names(watched: Watched) -> None:
    (pattern,) = {
        match.replace("\\\\", "\\") for match in re.findall(r'"operator", "(.+?)"\)', " ".join(queries(dashboard())))
    }
    operators = watched.after.label("ray_data_num_external_inqueue_blocks", "operator")
    stages = {found[1] for operator in operators if (found := re.fullmatch(pattern, operator))}
    assert stages >= set(watched.report.stages)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def queries(value: Any) -> list[str]:  # noqa: ANN401 - any part of a dashboard
    """Every query in a dashboard, those of its variables too."""
    if isinstance(value, list):
        return [query for one in value for query in queries(one)]
    if not isinstance(value, dict):
        return []
    own = [one for name, one in value.items() if name in ("expr", "definition", "query") and isinstance(one, str)]
    return own + [query for one in value.values() for query in queries(one)]


def asked_by_the_dashboard() -> set[str]:
    """The names of all metrics in the dashboard's queries."""
    return {name for query in queries(dashboard()) for name in re.findall(r"\bray_\w+", query)}


def test_the_dashboard_asks_only_for_what_is_there(watched: Watched) -> None:
    asked = asked_by_the_dashboard()
    assert asked - watched.after.names == set()
    assert asked >= {metric.exported_name for metric in (*DRIVER_METRICS, BYTES_READ)}
