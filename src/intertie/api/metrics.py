"""`/metrics`: the data plane's plain counters in Prometheus' text format. Labels come from the configuration only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from intertie.dataplane.observe import BUCKETS, Counters, Histogram

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

GAUGES: Final[Mapping[str, str]] = {
    "cache_memory_bytes": "Kept answers in memory.",
    "cache_disk_bytes": "Kept answers on disk.",
    "cache_similar_entries": "Questions that similar ones are compared with.",
    "event_loop_lag_seconds": "How late the event loop ran in the worst of the last seconds.",
    "memory_share": "Resident memory as a share of the limit above which requests are refused.",
    "ready": "1 if the gateway accepts requests, else 0.",
    "snapshot_revision": "Number of the configuration in force.",
    "nodes_connected": "Nodes whose link is up.",
    "node_lanes_busy": "Requests under way on lanes of nodes.",
    "spool_bytes": "Bytes of accounts waiting to be loaded into the database.",
    "targets_out": "Targets that are ejected or rest at present.",
    "credentials_parked": "Credentials that an upstream refused and an operator must look at.",
}
"""Name (behind `intertie_`) and meaning of every gauge; a reading of any other name is an error."""


class Readings(Collector):
    """Turns counters and gauges into metric families."""

    def __init__(self, counters: Counters, gauges: Mapping[str, float]) -> None:
        self._counters = counters
        self._gauges = gauges

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: the registry need not read the counters to register us."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families. Dictionaries are copied first: the event loop writes them while we iterate."""
        counters = self._counters
        tallies = dict(counters.tallies)
        requests: list[tuple[tuple[str, ...], int]] = []
        tokens: list[tuple[tuple[str, ...], int]] = []
        for (route, operation), tally in tallies.items():
            outcomes = {"ok": tally.ok, **tally.failed}
            requests += [((route, operation, outcome), count) for outcome, count in outcomes.items()]
            kinds = {kind: getattr(tally, kind) for kind in ("input", "output", "cached", "reasoning")}
            tokens += [((route, operation, kind), count) for kind, count in kinds.items()]
        yield _counter("requests", "Finished requests.", ("route", "operation", "outcome"), requests)
        yield _counter(
            "attempts", "Requests sent to upstreams.", ("upstream", "outcome"), dict(counters.attempts).items()
        )
        yield _counter("tokens", "Tokens used.", ("route", "operation", "kind"), tokens)
        cost = [(key, tally.cost) for key, tally in tallies.items()]
        yield _counter("cost_micros", "Known cost in micro-units of the currency.", ("route", "operation"), cost)
        given = [((*key, word), n) for key, tally in tallies.items() for word, n in dict(tally.answers).items()]
        yield _counter("cache_requests", "Requests by what the cache did.", ("route", "operation", "cache"), given)
        saved = [(key, tally.saved) for key, tally in tallies.items()]
        yield _counter("cache_saved_micros", "What answers given again would have cost.", ("route", "operation"), saved)
        hedges, copies = dict(counters.hedges), dict(counters.shadows)
        help_ = "Requests that asked a second target: it answered first (won), it did not (lost), or neither (failed)."
        yield _counter("hedges", help_, ("route", "outcome"), hedges.items())
        help_ = "Copies of answered requests for shadow targets, those that were not sent among them."
        yield _counter("shadows", help_, ("route", "outcome"), copies.items())
        yield _counter("requests_shed", "Requests refused because of load.", (), [((), counters.shed)])
        durations = {key: tally.duration for key, tally in tallies.items()}
        yield _histogram("request_duration_seconds", "From the first byte in to the last byte out.", durations)
        first = {key: tally.ttft for key, tally in tallies.items()}
        yield _histogram("time_to_first_token_seconds", "From the first byte in to the first model output.", first)
        added = {key: tally.overhead for key, tally in tallies.items()}
        yield _histogram("overhead_seconds", "Time that the gateway itself added.", added)
        in_flight = GaugeMetricFamily("intertie_requests_in_flight", "Requests being answered now.")
        in_flight.add_metric([], counters.in_flight)
        yield in_flight
        for name, value in self._gauges.items():
            gauge = GaugeMetricFamily(f"intertie_{name}", GAUGES[name])
            gauge.add_metric([], value)
            yield gauge


def make_registry() -> CollectorRegistry:
    """What every process exposes, in a registry of its own (never the library's global one)."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(common: CollectorRegistry, counters: Counters, gauges: Mapping[str, float]) -> bytes:
    """The whole exposition, of type `CONTENT_TYPE`. `gauges` were read on the event loop; this may run anywhere."""
    ours = CollectorRegistry(auto_describe=False)
    ours.register(Readings(counters, gauges))
    return generate_latest(ours) + generate_latest(common)


def _counter(
    name: str, help_: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"intertie_{name}", help_, labels=labels)
    for key, value in values:
        family.add_metric(list(key), value)
    return family


def _histogram(name: str, help_: str, values: Mapping[tuple[str, str], Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"intertie_{name}", help_, labels=("route", "operation"))
    for key, histogram in values.items():
        counts, total = list(histogram.counts), histogram.sum
        buckets, sum_so_far = [], 0
        for bound, count in zip([*(str(bound) for bound in BUCKETS), "+Inf"], counts, strict=True):
            sum_so_far += count
            buckets.append((bound, float(sum_so_far)))
        family.add_metric(list(key), buckets, total)
    return family
