"""What is promised about these figures, and whether a run shows it."""

from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from benchmarks import figures
from benchmarks.contestants import OURS, TWO_WORKERS
from benchmarks.figures import Figure
from benchmarks.rounds import Results

#: What verifying may cost beside md5 itself, CPU s/GB.
_BESIDE_MD5 = 0.2


@frozen
class Outcome:
    """
    A goal, and what became of it.

    :ivar value: what was measured; ``None`` if it, or what it is compared with, was not.
    :ivar bound: what it is to be compared with.
    :ivar is_most: whether the value is to stay within the bound; else it has to reach it.
    :ivar is_stretch: whether it is hoped for only.
    """

    title: str
    value: float | None
    bound: float | None
    is_most: bool = True
    is_stretch: bool = False

    @property
    def is_met(self) -> bool | None:
        if self.value is None or self.bound is None:
            return None
        return self.value <= self.bound if self.is_most else self.value >= self.bound


def outcomes(results: Results) -> list[Outcome]:
    """All goals, in the order of the works."""
    return [*_whole(results), *_couchdb(results), *_small(results), *_stalled(results), _workers(results)]


def _get(results: Results, work: str, contestant: str, figure: Figure) -> float | None:
    return results.median(work, contestant).get(figure.name)


def _beside(
    results: Results,
    work: str,
    figure: Figure,
    peer: str,
    factor: float,
    is_most: bool = True,
    is_stretch: bool = False,
) -> Outcome:
    """Our figure against so many times a peer's."""
    theirs = _get(results, work, peer, figure)
    return Outcome(
        f"{work}: {figure.title} {'at most' if is_most else 'at least'} {factor:g} x {peer}",
        _get(results, work, OURS, figure),
        None if theirs is None else factor * theirs,
        is_most,
        is_stretch,
    )


def _whole(results: Results) -> Iterator[Outcome]:
    yield _beside(results, "rest", figures.CPU_PER_GB, "nginx", 0.35)
    yield _beside(results, "rest", figures.CPU_PER_GB, "aiohttp", 0.3)
    yield _beside(results, "rest", figures.CPU_PER_GB, "haproxy", 1.2, is_stretch=True)
    md5 = results.md5_seconds_per_gb
    bound = None if md5 is None else md5 + _BESIDE_MD5
    title = f"whole: CPU s/GB at most md5's own + {_BESIDE_MD5:g}"
    yield Outcome(title, _get(results, "whole", OURS, figures.CPU_PER_GB), bound)


def _couchdb(results: Results) -> Iterator[Outcome]:
    yield _beside(results, "couchdb-rest", figures.CPU_PER_GB, "nginx", 0.35)
    yield _beside(results, "couchdb-rest", figures.CPU_PER_GB, "aiohttp", 0.08)
    yield _beside(results, "couchdb-1m-16", figures.RATE, "direct", 0.95, is_most=False)


def _small(results: Results) -> Iterator[Outcome]:
    yield _beside(results, "64k-16", figures.CPU_PER_REQUEST, "aiohttp", 0.8)
    yield _beside(results, "64k-16", figures.CPU_PER_REQUEST, "nginx", 1.3, is_stretch=True)
    for work in ("304", "403"):
        yield _beside(results, work, figures.CPU_PER_REQUEST, "aiohttp", 0.8)
        yield _beside(results, work, figures.CPU_PER_REQUEST, "go", 1.0, is_stretch=True)


def _stalled(results: Results) -> Iterator[Outcome]:
    few, many = "stalled-1000", "stalled-5000"
    limits: Sequence[tuple[str, Figure, float, bool, Callable[[str], str]]] = (
        (few, figures.KIB_PER_STREAM, 40, True, "{} at most 40".format),
        (few, figures.GROWTH, 1.02, True, "{} at most 1.02: flat".format),
        (few, figures.STALLED_CPU, 1, True, "{} at most 1".format),
        (many, figures.SERVED, 100, False, "{} 100".format),
    )
    for work, figure, bound, is_most, title in limits:
        yield Outcome(f"{work}: {title(figure.title)}", _get(results, work, OURS, figure), bound, is_most)
    yield _beside(results, many, figures.KIB_PER_STREAM, "aiohttp", 0.25)


def _workers(results: Results) -> Outcome:
    """
    Two workers against one.

    Not by requests a second: on two cores, which the load generator and the upstream want too, these cannot double.
    """
    one = _get(results, "64k-64", OURS, figures.CAPACITY)
    two = _get(results, "64k-64", TWO_WORKERS, figures.CAPACITY)
    title = f"64k-64: two workers' {figures.CAPACITY.title}, at least 1.75 x one's"
    return Outcome(title, two, None if one is None else 1.75 * one, is_most=False)
