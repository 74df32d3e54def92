"""Which fault each exchange has, and what came of it."""

from collections.abc import Callable
from random import Random

from attrs import define, field

from tests.faults.connections import Hangup
from tests.faults.exchange import Start
from tests.faults.floods import Surplus
from tests.faults.kinds import AnswerStatus, Cut, DyingWords, Fault, NoFault, Refuse, Truncate
from tests.scripted import DYING_WORDS, Asked


@define
class Applied:
    """
    :ivar took_effect: whether the answer was long enough for the fault to show.
    """

    asked: Asked
    fault: Fault
    took_effect: bool = False

    def strike(self) -> None:
        self.took_effect = True


@define
class Schedule:
    """
    :ivar decide: asked for each exchange.
    :ivar applied: all exchanges so far, those without a fault too.
    """

    decide: Callable[[Asked], Fault]
    applied: list[Applied] = field(factory=list, init=False)
    # What it was made of, for who reads of a test that failed.
    _source: object = field(default=None, kw_only=True)

    @classmethod
    def of(cls, *faults: Fault, spares: Callable[[Asked], bool] = lambda _: False) -> "Schedule":
        """
        One after the other; none after the last.

        :param spares: which exchanges have none, and take none from the others.
        """
        left = iter(faults)
        return cls(lambda asked: NoFault() if spares(asked) else next(left, NoFault()), source=faults)

    @classmethod
    def seeded(cls, seed: int, rate: float, draw: Callable[[Random], Fault] | None = None) -> "Schedule":
        """
        At random, always in the same way.

        :param rate: the share of exchanges that have a fault, 0 to 1.
        :param draw: which one; without it, those of :func:`detectable_fault`.
        """
        random, choose = Random(seed), draw or detectable_fault
        return cls(
            lambda _: choose(random) if random.random() < rate else NoFault(),
            source=("seeded", seed, rate),
        )

    def next(self, asked: Asked) -> Applied:
        self.applied.append(Applied(asked, self.decide(asked)))
        return self.applied[-1]

    @property
    def struck(self) -> list[Fault]:
        """The faults that showed."""
        return [each.fault for each in self.applied if each.took_effect]

    def __repr__(self) -> str:
        return f"Schedule({self._source or self.decide!r})"


def detectable_fault(random: Random) -> Fault:
    """A fault that no range hides, that needs no time, and after which the same request may well succeed."""
    # Of all magnitudes up to a megabyte.
    after = int(2 ** random.uniform(0, 20)) - 1
    how = random.choice(list(Hangup))
    faults = [
        Refuse(how),
        Cut(after, how),
        Cut(random.randrange(200), how, start=Start.HEAD),
        Truncate(after + 1),
        DyingWords(after),
        AnswerStatus(random.choice([500, 502, 503, 504]), random.choice([True, False])),
        Surplus(DYING_WORDS),
    ]
    return random.choice(faults)
