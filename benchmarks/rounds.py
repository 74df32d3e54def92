"""
Interleaved rounds: within each piece of work, every contestant is measured once a round, one after the other, so that
whatever else the machine does meets all of them.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from attrs import define, field, frozen

from benchmarks.contestants import CONTESTANTS, OURS, Contestant, Gateway
from benchmarks.figures import Measurement, medians, ratios
from benchmarks.load import WrongAnswer
from benchmarks.processes import Room, StartFailed
from benchmarks.upstreams import Upstream
from benchmarks.works import Work, md5_seconds_per_gb


@define
class Results:
    """
    All that was measured.

    :ivar rounds: the measurements, by work and contestant.
    :ivar skipped: contestants that are not here, and why.
    :ivar failures: what did not answer as it must.
    :ivar md5: CPU seconds of md5 itself for 1 GB, of each round.
    """

    rounds: dict[str, dict[str, list[Measurement]]] = field(factory=dict)
    skipped: dict[str, str] = field(factory=dict)
    failures: list[str] = field(factory=list)
    md5: list[float] = field(factory=list)

    def median(self, work: str, contestant: str) -> Measurement:
        """The medians of a contestant; none where it was not measured."""
        measured = self.rounds.get(work, {}).get(contestant)
        return medians(measured) if measured else {}

    def ratios(self, work: str, contestant: str) -> Measurement:
        """How many times this gateway's figures they are."""
        return ratios(self.median(work, contestant), self.median(work, OURS))

    @property
    def md5_seconds_per_gb(self) -> float | None:
        return statistics.median(self.md5) if self.md5 else None


@frozen
class Step:
    """What is being done now, for whoever watches."""

    work: str
    contestant: str
    round: int


def run(
    room: Room,
    upstreams: Mapping[str, Upstream],
    works: Sequence[Work],
    names: Sequence[str],
    rounds: int,
    watch: Callable[[Step], None],
) -> Results:
    """Do all works with all contestants of these names that are here."""
    results = Results()
    missing = {name: CONTESTANTS[name].missing() for name in names}
    results.skipped = {name: why for name, why in missing.items() if why is not None}
    contestants = [CONTESTANTS[name] for name in names if name not in results.skipped]
    for kind, upstream in upstreams.items():
        _Bout(room, upstream, contestants, results, watch).run(
            [work for work in works if work.upstream == kind], rounds
        )
    return results


@frozen
class _Bout:
    """All contestants in front of one upstream."""

    room: Room
    upstream: Upstream
    contestants: Sequence[Contestant]
    results: Results
    watch: Callable[[Step], None]

    def run(self, works: Sequence[Work], rounds: int) -> None:
        kept = [work for work in works if not work.needs_fresh]
        with ExitStack() as running:
            gateways = {}
            for contestant in self.contestants:
                if any(work.suits(contestant) for work in kept):
                    gateways[contestant.name] = self._start(running, contestant)
            for work in kept:
                self._measure(work, rounds, gateways)
        for work in works:
            if work.needs_fresh:
                self._measure(work, rounds, {})

    def _start(self, running: ExitStack, contestant: Contestant) -> Gateway | None:
        try:
            return running.enter_context(contestant.running(self.room, self.upstream))
        except StartFailed as failed:
            self.results.failures.append(f"{contestant.name}: {failed}")
            return None

    def _measure(self, work: Work, rounds: int, gateways: Mapping[str, Gateway | None]) -> None:
        broken: set[str] = set()
        for number in range(min(rounds, work.most_rounds)):
            self.results.md5.append(md5_seconds_per_gb())
            for contestant in self.contestants:
                self.watch(Step(work.name, contestant.name, number + 1))
                if contestant.name in broken or not work.suits(contestant):
                    continue
                with ExitStack() as running:
                    is_fresh = contestant.name not in gateways
                    gateway = self._start(running, contestant) if is_fresh else gateways[contestant.name]
                    if gateway is None or not self._measure_once(work, contestant, gateway, is_fresh or number == 0):
                        broken.add(contestant.name)

    def _measure_once(self, work: Work, contestant: Contestant, gateway: Gateway, is_new: bool) -> bool:
        try:
            if is_new:
                work.prepare(gateway, self.upstream)
            figures = work.measure(gateway, self.upstream)
        except (OSError, WrongAnswer) as wrong:
            self.results.failures.append(f"{work.name}, {contestant.name}: {wrong}")
            return False
        self.results.rounds.setdefault(work.name, {}).setdefault(contestant.name, []).append(figures)
        return True
