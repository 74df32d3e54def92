"""What a measurement says, and the arithmetic of it: medians over rounds, ratios to this gateway."""

import math
import statistics
from collections.abc import Mapping, Sequence

from attrs import frozen

from benchmarks.load import Load

#: The figures of one measurement, by name.
Measurement = Mapping[str, float]

_GB = 1e9
_MB = 1e6


@frozen
class Figure:
    """
    A kind of figure.

    :ivar name: in a measurement and in JSON.
    :ivar title: for people, with the unit.
    :ivar is_cost: whether less of it is better.
    """

    name: str
    title: str
    is_cost: bool = True


CPU_PER_GB = Figure("cpu_s_per_gb", "CPU s/GB")
CPU_PER_REQUEST = Figure("cpu_ms_per_request", "CPU ms/request")
THROUGHPUT = Figure("mb_per_s", "MB/s", is_cost=False)
RATE = Figure("requests_per_s", "requests/s", is_cost=False)
CAPACITY = Figure("capacity", "requests/CPU s of the busiest process", is_cost=False)
COMPLETE_P50 = Figure("complete_p50_ms", "complete, p50 ms")
COMPLETE_P99 = Figure("complete_p99_ms", "complete, p99 ms")
FIRST_BYTE_P50 = Figure("first_byte_p50_ms", "first byte, p50 ms")
FIRST_BYTE_P99 = Figure("first_byte_p99_ms", "first byte, p99 ms")
LOAD_BUSY = Figure("load_busy", "CPU of the load generator, share of a core")
KIB_PER_STREAM = Figure("kib_per_stream", "KiB/stream")
SOCKETS = Figure("socket_kib_per_stream", "kernel sockets, both sides, KiB/stream")
GROWTH = Figure("growth", "memory later, times")
STALLED_CPU = Figure("stalled_cpu_percent", "CPU, % of a core")
SERVED = Figure("served_percent", "served, %", is_cost=False)
READ_ON = Figure("read_on_percent", "read on, %", is_cost=False)


def of_load(load: Load, cpu: Mapping[int, float]) -> dict[str, float]:
    """
    The figures of a run.

    :param cpu: what each process of the gateway used for it, CPU seconds; none if there is no gateway.
    """
    figures = {
        RATE: load.requests / load.seconds,
        COMPLETE_P50: percentile(load.complete, 0.50) * 1e3,
        COMPLETE_P99: percentile(load.complete, 0.99) * 1e3,
        FIRST_BYTE_P50: percentile(load.first_byte, 0.50) * 1e3,
        FIRST_BYTE_P99: percentile(load.first_byte, 0.99) * 1e3,
        LOAD_BUSY: load.own_cpu / load.seconds,
    }
    if load.body_bytes:
        figures[THROUGHPUT] = load.body_bytes / _MB / load.seconds
    if cpu:
        figures[CPU_PER_REQUEST] = sum(cpu.values()) * 1e3 / load.requests
        figures[CAPACITY] = load.requests / max(cpu.values())
    if cpu and load.body_bytes:
        figures[CPU_PER_GB] = sum(cpu.values()) * _GB / load.body_bytes
    return {figure.name: value for figure, value in figures.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def medians(rounds: Sequence[Measurement]) -> dict[str, float]:
    """The median of each figure that every round has."""
    names = [name for name in rounds[0] if all(name in each for each in rounds)]
    return {name: statistics.median(each[name] for each in rounds) for name in names}


def ratios(theirs: Measurement, ours: Measurement) -> dict[str, float]:
    """How many times our figure theirs is, of those that both have and ours is not zero."""
    return {name: value / ours[name] for name, value in theirs.items() if ours.get(name)}
