"""
The second stream of stored bytes beside a silent one: see :mod:`~txcouchdl.couch.hedging`.
"""

from collections.abc import Callable
from functools import partial

from txcouchdl.couch.body_stream import BodyStream
from txcouchdl.couch.hedging import Hedge
from txcouchdl.couch.opened_body import Body


class SecondStream:
    """
    Opens the second stream once the budget of hedges allows.

    :param new_stream: makes a stream for all bytes that are not known yet.
    :ivar stream: the second stream, while there is one.
    """

    def __init__(self, new_stream: Callable[[], BodyStream]) -> None:
        self.stream: BodyStream | None = None
        self._new_stream = new_stream
        self._hedge: Hedge | None = None

    def request(self, silent: Body) -> None:
        """
        Have one opened, if anything is hedged at all.

        :param silent: the body of the first stream.
        """
        self._hedge = silent.hedge(partial(self._open, silent))
        if self._hedge is not None:
            self._hedge.request()

    def _open(self, silent: Body) -> bool:
        stream = self._new_stream()
        opening = silent.open_elsewhere(stream.request)
        if opening is None:
            return False
        self.stream = stream
        stream.open(opening)
        return True

    def take(self) -> BodyStream | None:
        """Hand over the stream: it is the only one from now on."""
        hedge, self._hedge = self._hedge, None
        if hedge is not None:
            hedge.end()
        stream, self.stream = self.stream, None
        return stream

    def drop(self) -> None:
        """Open none any more, and drop the one that there is."""
        stream = self.take()
        if stream is not None:
            stream.drop()
