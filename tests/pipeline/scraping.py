"""Reading what Ray's nodes serve to Prometheus."""

import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from pipeline.ray_nodes import live_nodes

METRICS_MS = 5000
"""How often the processes of the tests' Rays report; by default it is every ten seconds. A gauge that was not set again
goes after two of these, so it is longer than the end of a run takes: what was set last is still there to be scraped."""

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of all nodes at one moment."""

    samples: list[tuple[str, dict[str, str], float]]

    @classmethod
    def now(cls) -> "Scrape":
        """Asks every node of the cluster that this process is connected to."""
        nodes = live_nodes()
        return cls.of([f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes])

    @classmethod
    def of(cls, endpoints: list[str]) -> "Scrape":
        """Asks some nodes, each an address and a port."""
        samples: list[tuple[str, dict[str, str], float]] = []
        for endpoint in endpoints:
            with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=30) as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                samples += [(sample.name, dict(sample.labels), sample.value) for sample in family.samples]
        return cls(samples)

    @property
    def names(self) -> set[str]:
        """Names of all series."""
        return {name for name, _, _ in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series that have these labels; 0 where there is none."""
        return sum(value for found, of, value in self.samples if found == name and labels.items() <= of.items())

    def label(self, name: str, label: str) -> set[str]:
        """The values that one label has in the series of a name."""
        return {of[label] for found, of, _ in self.samples if found == name}


def until(scrape: Callable[[], Scrape], holds: Callable[[Scrape], bool]) -> Scrape:
    """Scrapes until something holds; the last scrape where it never does."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        last = scrape()
        if holds(last) or time.monotonic() > ends:
            return last
        time.sleep(0.5)
