"""
How often one address may be wrong.

The first wrong token of an address begins a minute. Within it so many are allowed, and what comes above is held off
until the minute is over. One time and one number are all that there is to know of an address, however often it tries.
"""

from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final

from attrs import define
from twisted.internet.interfaces import IReactorTime

#: Wrong tokens a minute.
GUESS_LIMIT: Final = 60
#: Seconds.
_MINUTE: Final = 60.0
#: Addresses that are known at the same time, in 3 MB at most (measured). Beyond, the one whose minute began first is
#: forgotten; who has so many to guess from has more guesses than this module can take away.
MAX_ADDRESSES: Final = 10_000


@define
class _Minute:
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


class Guesses:
    """
    The wrong tokens of each address.

    :param limit: that are allowed in a minute; 0 for any number.
    :param clock: may be set forward and back, as the time of day is.
    """

    def __init__(self, limit: int, clock: IReactorTime) -> None:
        self._limit = limit
        self._clock = clock
        # In the order of their beginnings. All are equally long: the first one is over, or the next to be.
        self._minutes: OrderedDict[str | int, _Minute] = OrderedDict()

    def wrong(self, address: str) -> float | None:
        """
        Count a wrong token.

        :param address: that showed it, as :meth:`.TrustedProxies.client_of` has it. One of IPv6 counts as all of
            its /64, which is what one customer has.
        :return: ``None`` if it was within the limit; otherwise the seconds until the next one is, more than 0 and 60 at
            most.
        """
        if not self._limit:
            return None
        now = self._clock.seconds()
        minute = self._minute(_customer(address), now)
        if minute.wrong == self._limit:
            return minute.left(now)
        minute.wrong += 1
        return None

    def _minute(self, customer: str | int, now: float) -> _Minute:
        minute = self._minutes.get(customer)
        if minute is None or not minute.left(now):
            self._minutes.pop(customer, None)
            if len(self._minutes) == MAX_ADDRESSES:
                self._minutes.popitem(last=False)
            minute = self._minutes[customer] = _Minute(now)
        return minute


def _customer(address: str) -> str | int:
    return int(IPv6Address(address)) >> 64 if ":" in address else address
