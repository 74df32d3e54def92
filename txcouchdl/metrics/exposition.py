"""Numbers as Prometheus reads them: names, units and labels by its conventions, in its text format."""

import platform
from collections.abc import Iterator, Sequence
from typing import Final

import twisted
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IReactorTime

import txcouchdl
from txcouchdl.metrics.layout import BOUNDS, Histogram, Layout
from txcouchdl.metrics.table import Table

_BUCKETS: Final = (*map(str, BOUNDS), "+Inf")


class Exposition:
    """
    Everything that is told of a table.

    :ivar content_type: of the text.
    """

    content_type: Final = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, table: Table, clock: IReactorTime) -> None:
        # Of our own: what others may have registered with the process is none of ours.
        self._registry = CollectorRegistry()
        self._registry.register(_TableCollector(table, clock))

    def text(self) -> bytes:
        """As it is now."""
        return generate_latest(self._registry)


class _TableCollector(Collector):
    def __init__(self, table: Table, clock: IReactorTime) -> None:
        self._table = table
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        layout, sums = self._table.layout, self._table.sums()
        yield _BUILD
        yield from _of_clients(layout, sums)
        yield from _of_couchdb(layout, sums)
        yield from _of_nodes(layout, sums)
        yield _gauge("workers", "Processes that answer clients.", sums[layout.workers])
        hung = self._table.hung(self._clock.seconds())
        yield _gauge("hung_workers", "Of these, workers that have not moved for ten seconds.", hung)
        yield _counter("worker_deaths", "Workers that ended and should not have.", sums[layout.deaths])


def _of_clients(layout: Layout, sums: Sequence[int]) -> Iterator[Metric]:
    yield _counters(
        "requests",
        "Requests that have ended, by the status of their answer (499: the client left before there was one); left: "
        "the client did in the midst of it; broken_off: we did, since CouchDB failed for good.",
        "outcome",
        {outcome: sums[place] for outcome, place in layout.outcomes.items()},
    )
    yield _counter("sent_bytes", "Bytes of bodies that were sent to clients.", sums[layout.sent])
    yield _gauge("connections", "Connections of clients that are served.", sums[layout.connections])
    yield _counter("wrong_tokens", "Tokens and signatures that were compared, and wrong.", sums[layout.wrong_tokens])
    yield _counter(
        "guesses_delayed",
        "Requests whose token had to wait: their address had sent too many wrong ones, or too many at once.",
        sums[layout.guesses_delayed],
    )
    yield _counter(
        "guesses_refused", "Of these, and beyond these, requests that were answered 429.", sums[layout.guesses_refused]
    )


def _of_couchdb(layout: Layout, sums: Sequence[int]) -> Iterator[Metric]:
    yield _counters(
        "healings",
        "Downloads that went on behind a loss, by what was wrong with the transfer before.",
        "loss",
        {loss: sums[place] for loss, place in layout.losses.items()},
    )
    yield _counters(
        "hedges",
        "Exchanges that were begun at a second node because the first one said nothing for a while.",
        "kind",
        {kind: sums[place] for kind, place in layout.hedges.items()},
    )
    yield _counters(
        "hedges_won",
        "Those of them where the second node was faster.",
        "kind",
        {kind: sums[place] for kind, place in layout.hedges_won.items()},
    )
    yield _gauge(
        "parked_streams", "Downloads whose clients take nothing, and that use no CouchDB.", sums[layout.parked]
    )
    yield _gauge("queue_length", "Requests that wait for a place at a node.", sums[layout.queue])
    waits = HistogramMetricFamily("couchdl_queue_seconds", "How long requests waited for a place that had to.")
    waits.add_metric((), *_told(layout.waits, sums))
    yield waits
    yield _counter(
        "queue_refusals",
        "Requests that got no place at a node in time, none of --max-inflations, or no memory for a document.",
        sums[layout.overloaded],
    )


def _of_nodes(layout: Layout, sums: Sequence[int]) -> Iterator[Metric]:
    answers = HistogramMetricFamily(
        "couchdl_upstream_seconds", "How long nodes took to the head of an answer.", labels=("node",)
    )
    for node in layout.nodes:
        answers.add_metric((node.base,), *_told(node.answers, sums))
    yield answers
    failures = {node.base: sums[node.failures] for node in layout.nodes}
    yield _counters("node_failures", "Connections lost, 5xx and answers that did not come in time.", "node", failures)
    up = GaugeMetricFamily("couchdl_node_up", "1, or 0 if some process finds the node down.", labels=("node",))
    for node in layout.nodes:
        up.add_metric((node.base,), not sums[node.down])
    yield up
    aside = GaugeMetricFamily(
        "couchdl_node_aside",
        "1 if some process has set the node aside: it is in maintenance mode, or cut off from its cluster.",
        labels=("node",),
    )
    for node in layout.nodes:
        aside.add_metric((node.base,), bool(sums[node.aside]))
    yield aside


def _told(histogram: Histogram, sums: Sequence[int]) -> tuple[list[tuple[str, float]], float]:
    """Its buckets and its sum."""
    return list(zip(_BUCKETS, histogram.cumulated(sums), strict=True)), histogram.seconds(sums)


def _counter(name: str, what: str, value: int) -> Metric:
    return CounterMetricFamily(f"couchdl_{name}", what, value)


def _counters(name: str, what: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"couchdl_{name}", what, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def _gauge(name: str, what: str, value: int) -> Metric:
    return GaugeMetricFamily(f"couchdl_{name}", what, value)


_BUILD: Final = InfoMetricFamily(
    "couchdl_build",
    "What runs here.",
    {
        "version": txcouchdl.__version__,
        "python": platform.python_version(),
        "twisted": twisted.__version__,
    },
)
