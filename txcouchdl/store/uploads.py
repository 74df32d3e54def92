"""The body of a request while it arrives."""

from twisted.logger import Logger

from txcouchdl.store.answers import Refusal
from txcouchdl.store.blobs import Spool
from txcouchdl.store.trouble import refusal_of

_log = Logger()


class Upload:
    """
    The body of one request while it arrives.

    :param spool: where it goes.
    :param limit: how many bytes of it to keep; ``None`` for all.
    """

    def __init__(self, spool: Spool, limit: int | None) -> None:
        self._spool = spool
        self._limit = limit
        self._is_taken = False
        self._trouble: Refusal | None = None

    def receive(self, data: bytes) -> None:
        """Keep some more bytes. :meth:`take` raises what goes wrong: the client is still sending."""
        if self._trouble is not None:
            return
        if self._limit is not None and self._spool.length + len(data) > self._limit:
            self._refuse(Refusal(413, "too_large", "the request entity is too large"))
            return
        try:
            self._spool.write(data)
        except OSError as error:
            _log.failure("An upload could not be written to the store's disk")
            self._refuse(refusal_of(error))

    def _refuse(self, trouble: Refusal) -> None:
        self._trouble = trouble
        self._spool.discard()

    def take(self) -> Spool:
        """
        Hand the whole body over. The caller discards it.

        :raises Refusal: 507 or 500 if the disk did not take it, 413 if it is too long.
        """
        if self._trouble is not None:
            raise self._trouble
        self._is_taken = True
        return self._spool

    def close(self) -> None:
        """Discard the body, unless it was taken."""
        if not self._is_taken:
            self._spool.discard()
