"""
How many guesses one address has.

A *guess* is a secret, a token or the signature of a link, that is not known to be right. An address may have
``--guess-limit`` wrong ones a minute. Past the limit its guesses wait for their turns, one after the other and at
growing distances (:mod:`~txcouchdl.gateway.guess_windows`). They wait before their document is read: a guess that waits
costs CouchDB nothing, and whether the document exists makes no difference.

**Which requests wait.** Those of an address past its limit, unless the same secret opened the same document in the last
:data:`~txcouchdl.gateway.guess_table.PERIOD`, for whatever address. Such a secret is compared at once, and compared it
is: the memory saves the wait, never the check. If the check fails, the secret is forgotten and counts as wrong. A link
is known by its signature, which stays the same while its client seeks.

An address has as many guesses under way at once as the limit allows. Further ones wait for the first answers, even if
none is wrong: for milliseconds, where CouchDB is well.

**How long they wait.** For :data:`~txcouchdl.gateway.guess_queue.LONGEST_WAIT` at most; then the answer is 429. Of an
address past its limit, :data:`~txcouchdl.gateway.guess_queue.LONGEST_QUEUE` requests wait, and of all addresses
together ``max_waiting``; the answer to a further one is 429 at once. A 429 costs no read. A client that leaves gives
its place to the next one. A turn belongs to nobody before it begins, so nobody can reserve turns and leave.

**Several processes** share one table of windows and successes, and so the turns. Each process has a queue of its own
for an address, and the first request in it tries to get the next turn. Where the queues of several processes compete
for the turns of one address, some requests wait in vain.
"""

from functools import partial
from types import TracebackType
from typing import Final

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.errors import DownloadError
from txcouchdl.couch.names import DocumentAddress
from txcouchdl.gateway.errors import Forbidden, TooManyGuesses
from txcouchdl.gateway.guess_queue import GuessQueue
from txcouchdl.gateway.guess_table import GuessTable
from txcouchdl.gateway.guess_windows import Ticket, Wait
from txcouchdl.gateway.peers import customer_of
from txcouchdl.gateway.tally import UNCOUNTED, Tally

#: Wrong tokens a minute.
GUESS_LIMIT: Final = 60
#: Requests that wait in one process.
MAX_WAITING: Final = 1024


class RateLimiter:
    """
    Admits guesses, and counts the wrong ones.

    :param limit: wrong guesses of an address in a minute that need not wait; 0 for any number.
    :param clock: may be set forward and back, as the time of day is.
    :param table: where they are counted; by default no other process counts there.
    :param tally: counts wrong, delayed and refused guesses.
    :param max_waiting: requests that wait at the same time, at most.
    """

    def __init__(
        self,
        limit: int,
        clock: IReactorTime,
        table: GuessTable | None = None,
        tally: Tally = UNCOUNTED,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._limit = limit
        self._clock = clock
        table = table or GuessTable.own()
        self._windows = table.windows
        self._successes = table.successes
        self._tally = tally
        self._max_waiting = max_waiting
        self._without_limit = Attempt(self)
        # Of the addresses of which some request waits.
        self._queues: dict[bytes, GuessQueue] = {}
        self._waiting = 0

    async def admit(self, client: str, address: DocumentAddress, secret: bytes) -> "Attempt":
        """
        Wait until a secret may be compared. Its document must not be read before.

        :param client: the address that sent it, as :meth:`.TrustedProxies.client_of` has it. One of IPv6 counts as all
            of its /64: so much one customer has.
        :param secret: a token, or the signature of a link.
        :return: the context in which to compare it.
        :raises TooManyGuesses: if too many wait already, or if its turn did not come in time.
        """
        if not self._limit:
            return self._without_limit
        now = self._clock.seconds()
        mark = self._successes.mark(address, secret)
        if self._successes.includes(mark, now):
            return Attempt(self, client, mark)
        customer = self._name(client)
        if customer not in self._queues:
            verdict = self._windows.admit(customer, self._limit, now)
            if isinstance(verdict, Ticket):
                return Attempt(self, client, mark, customer, verdict)
        return Attempt(self, client, mark, customer, await self._turn(customer, mark))

    async def _turn(self, customer: bytes, mark: bytes) -> Ticket | None:
        queue = self._queues.get(customer)
        if queue is None:
            queue = GuessQueue(self._clock, partial(self._try, customer))
        try:
            if queue.is_full or self._waiting >= self._max_waiting:
                raise TooManyGuesses(retry_after=queue.retry_after)
            return await self._wait(customer, queue, mark)
        except TooManyGuesses:
            self._tally.guess_refused()
            raise

    async def _wait(self, customer: bytes, queue: GuessQueue, mark: bytes) -> Ticket | None:
        self._queues[customer] = queue
        self._waiting += 1
        self._tally.guess_delayed()
        try:
            return await queue.join(mark)
        finally:
            self._waiting -= 1
            if len(queue) == 0:
                del self._queues[customer]

    def _try(self, customer: bytes) -> Ticket | Wait:
        return self._windows.admit(customer, self._limit, self._clock.seconds())

    def _name(self, client: str) -> bytes:
        """Return the name in the table of all addresses that count as one with a client's."""
        return self._windows.name(customer_of(client))

    # Outcomes of an attempt.

    def succeeded(self, attempt: "Attempt") -> None:
        """Remember a right secret."""
        if attempt.ticket is not None:
            self._successes.remember(attempt.mark, self._clock.seconds())
            queue = self._queues.get(attempt.customer)
            if queue is not None:
                queue.release(attempt.mark)
            self._take_back(attempt, attempt.ticket)

    def failed(self, attempt: "Attempt") -> None:
        """Count a wrong secret."""
        self._tally.wrong_token()
        if not self._limit:
            return
        if attempt.ticket is None:
            self._successes.forget(attempt.mark)
        customer = attempt.customer or self._name(attempt.client)
        self._windows.count_wrong(customer, attempt.ticket, self._limit, self._clock.seconds())

    def withdrawn(self, attempt: "Attempt") -> None:
        """Count nothing: CouchDB failed."""
        if attempt.ticket is not None:
            self._take_back(attempt, attempt.ticket)

    def abandoned(self, attempt: "Attempt") -> None:
        """Count the secret of a client that left: leaving must not be a way around the limit."""
        if attempt.ticket is not None:
            self._windows.count_wrong(attempt.customer, attempt.ticket, self._limit, self._clock.seconds())

    def _take_back(self, attempt: "Attempt", ticket: Ticket) -> None:
        self._windows.take_back(attempt.customer, ticket, self._clock.seconds())
        queue = self._queues.get(attempt.customer)
        if queue is not None:
            queue.advance()


# With a dict it is made faster than with slots.
@frozen(slots=False)
class Attempt:
    """
    One secret on its way to being compared: a context manager, in which its document is read and the secret compared.

    If the context ends with Forbidden, the secret was wrong; with any other DownloadError, it could not be compared;
    without an error, it was right.

    :ivar client: the address that sent the secret.
    :ivar mark: of the secret and its document.
    :ivar customer: the name in the table of the address that counts; empty if the secret was known from the start.
    :ivar ticket: ``None`` if the secret is known by now. Without a limit, all of these are empty.
    """

    _limiter: RateLimiter
    client: str = ""
    mark: bytes = field(default=b"", repr=False)
    customer: bytes = b""
    ticket: Ticket | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._limiter.succeeded(self)
        elif issubclass(kind, Forbidden):
            self._limiter.failed(self)
        elif issubclass(kind, DownloadError):
            self._limiter.withdrawn(self)
        else:
            self._limiter.abandoned(self)
