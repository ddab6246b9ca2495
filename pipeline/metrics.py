"""What a run tells Prometheus, through the endpoint that Ray has on every node: each name appears there after `ray_`.

A metric never ends a run: what fails here is said once in the log.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ray.util import metrics as ray_metrics

from records.items import CatalogItem
from storage.fetched import FetchedMedia

logger = logging.getLogger(__name__)

Tags = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric, as it is declared to Ray."""

    name: str
    help: str
    tags: Tags = ()
    counter: bool = False

    @property
    def exported_name(self) -> str:
        """What Prometheus calls it."""
        return f"ray_{self.name}{'_total' if self.counter else ''}"


BYTES_READ = Metric(name="reelscribe_bytes_read", help="Bytes of items that workers of decode fetched", counter=True)


class Instrument(Protocol):
    """Where the values of one metric go."""

    def put(self, value: float, tags: Mapping[str, str]) -> None:
        """A gauge's value now, or what a counter, above 0, grew by."""
        ...


class RayInstrument:
    """A metric of Ray's, which every node serves for the processes on it."""

    def __init__(self, metric: Metric) -> None:
        kind = ray_metrics.Counter if metric.counter else ray_metrics.Gauge
        self._metric = kind(metric.name, description=metric.help, tag_keys=metric.tags)

    def put(self, value: float, tags: Mapping[str, str]) -> None:
        """Records; the value leaves the process at Ray's next report."""
        if isinstance(self._metric, ray_metrics.Counter):
            self._metric.inc(value, tags=dict(tags))
        else:
            self._metric.set(value, tags=dict(tags))


Reading = tuple[Metric, Tags, float]
"""A metric, the values of its tags after the run's id, and the value: of a counter the sum so far."""


class Publisher:
    """Puts readings where they go. What fails here is said once, and no more is tried: no run ends of it."""

    def __init__(self, first_tags: Tags = (), instrument: Callable[[Metric], Instrument] = RayInstrument) -> None:
        self._first_tags = first_tags
        self._instrument = instrument
        self._instruments: dict[Metric, Instrument] = {}
        self._sums: dict[tuple[Metric, Tags], float] = {}
        self._broken = False

    def publish(self, readings: Iterable[Reading]) -> None:
        """Publishes gauges, and the growth of counters since the last time."""
        if self._broken:
            return
        try:
            for metric, tags, value in readings:
                self._put(metric, tags, value)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises, the run is worth more than its metrics
            self._broken = True
            logger.warning("no more metrics from here: %s: %s", type(error).__name__, error)

    def _put(self, metric: Metric, tags: Tags, value: float) -> None:
        if metric.counter:
            grown = value - self._sums.get((metric, tags), 0.0)
            if grown <= 0:
                return
            self._sums[metric, tags] = value
            value = grown
        if metric not in self._instruments:
            self._instruments[metric] = self._instrument(metric)
        self._instruments[metric].put(value, dict(zip(metric.tags, (*self._first_tags, *tags), strict=True)))


class CountedFetch:
    """A fetcher whose bytes are counted, on the node where it runs. Safe between threads.

    Args:
        fetch: Gives an item's bytes.
        publisher: Hears the sum after each item.
    """

    def __init__(self, fetch: Callable[[CatalogItem], FetchedMedia], publisher: Publisher | None = None) -> None:
        self._fetch = fetch
        self._publisher = publisher or Publisher()
        self._lock = threading.Lock()
        self._bytes = 0

    def __call__(self, item: CatalogItem) -> FetchedMedia:
        """The item's bytes, as the fetcher gives them."""
        media = self._fetch(item)
        with self._lock:
            self._bytes += media.size_bytes
            self._publisher.publish([(BYTES_READ, (), self._bytes)])
        return media
