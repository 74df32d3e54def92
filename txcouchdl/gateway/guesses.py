"""
How often one address may be wrong.

The first wrong token of an address begins a minute. Within it so many are allowed, and what comes above is held off
until the minute is over. One time and one number are all that there is to know of an address, however often it tries.
"""

from collections import OrderedDict
from typing import Final, Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.gateway.peers import customer_of
from txcouchdl.gateway.tally import UNCOUNTED, Tally

#: Wrong tokens a minute.
GUESS_LIMIT: Final = 60
#: Seconds.
_MINUTE: Final = 60.0
#: Addresses that are known at the same time, in 3 MB at most (measured). Beyond, the one whose minute began first is
#: forgotten; who has so many to guess from has more guesses than this module can take away.
MAX_ADDRESSES: Final = 10_000


@frozen
class Minute:
    """
    :ivar began: in the clock's seconds.
    :ivar wrong: tokens so far, as far as they were allowed.
    """

    began: float
    wrong: int = 0

    def left(self, now: float) -> float:
        """Seconds until it is over; 0 if it is, and if it has not begun: somebody has set the clock back."""
        passed = now - self.began
        return _MINUTE - passed if 0 <= passed < _MINUTE else 0.0

    def with_one_more(self, most: int) -> "Minute":
        return Minute(self.began, min(self.wrong + 1, most))


class Minutes(Protocol):
    """The minutes of all addresses that are known."""

    def count(self, customer: str, most: int, now: float) -> Minute:
        """
        Count a wrong token, unless there are so many already, in a minute that is not over or in a new one.

        :return: the minute as it was before.
        """


class OwnMinutes:
    """Those that one process counts for itself."""

    def __init__(self) -> None:
        # In the order of their beginnings. All are equally long: the first one is over, or the next to be.
        self._minutes: OrderedDict[str, Minute] = OrderedDict()

    def count(self, customer: str, most: int, now: float) -> Minute:
        """See :class:`Minutes`."""
        minute = self._minutes.get(customer)
        if minute is None or not minute.left(now):
            self._minutes.pop(customer, None)
            if len(self._minutes) == MAX_ADDRESSES:
                self._minutes.popitem(last=False)
            minute = Minute(now)
        self._minutes[customer] = minute.with_one_more(most)
        return minute


class Guesses:
    """
    The wrong tokens of each address.

    :param limit: that are allowed in a minute; 0 for any number.
    :param clock: may be set forward and back, as the time of day is.
    :param minutes: where they are counted; by default nobody else counts there.
    :param tally: is told of each.
    """

    def __init__(
        self, limit: int, clock: IReactorTime, minutes: Minutes | None = None, tally: Tally = UNCOUNTED
    ) -> None:
        self._limit = limit
        self._tally = tally
        self._clock = clock
        self._minutes = minutes or OwnMinutes()

    def wrong(self, address: str) -> float | None:
        """
        Count a wrong token.

        :param address: that showed it, as :meth:`.TrustedProxies.client_of` has it. One of IPv6 counts as all of
            its /64, which is what one customer has.
        :return: ``None`` if it was within the limit; otherwise the seconds until the next one is, more than 0 and 60 at
            most.
        """
        held_off = self._held_off(address) if self._limit else None
        self._tally.wrong_token(held_off is not None)
        return held_off

    def _held_off(self, address: str) -> float | None:
        now = self._clock.seconds()
        minute = self._minutes.count(customer_of(address), self._limit, now)
        return minute.left(now) if minute.wrong >= self._limit else None
