"""
Whether there is a CouchDB to read from: nodes are asked when somebody wants to know, once for all who want to within a
second. So nobody makes us ask more often than that, and nobody is told what was so a while ago.

One node that hangs does not keep the others' answer back for longer than a moment: who asks is a load balancer, and
has little patience.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txcouchdl.couch.client import CouchClient
from txcouchdl.couch.errors import UpstreamFailure

#: Seconds for which an answer is told to whoever asks.
_FRESH: Final = 1.0
#: Seconds that all nodes have to answer in, where one of them has.
_PATIENCE: Final = 0.5

#: By the names of the nodes, whether they say that they are up.
States = Mapping[str, bool]

_log = Logger()


class Readiness:
    """
    :param clients: of the nodes, at least one.
    :ivar refusing: the names of the nodes that refuse the gateway's user.
    """

    def __init__(self, clients: Sequence[CouchClient], clock: IReactorTime) -> None:
        self._clients = clients
        self._clock = clock
        self.refusing: frozenset[str] = frozenset()
        self._known: States = {}
        self._known_since: float | None = None
        self._waiting: list[Deferred[States]] = []
        # While they are asked: who has not answered, who has, and when it has been long enough.
        self._asking: dict[str, Deferred[None]] = {}
        self._heard: dict[str, bool] = {}
        self._patience: IDelayedCall | None = None

    def ask(self) -> "Deferred[States]":
        """
        :return: fires within seconds, and does not fail. A node that has not answered by then counts as one that is
            not up. Cancelling it keeps nobody else from the answer.
        """
        if self._known_since is not None and 0 <= self._clock.seconds() - self._known_since < _FRESH:
            return succeed(self._known)
        waiting: Deferred[States] = Deferred()
        self._waiting.append(waiting)
        if self._patience is None:
            self._begin()
        return waiting

    def refuse(self, names: frozenset[str]) -> None:
        """
        Count some nodes as not up, and ask them no more; and the others again.

        :param names: of the nodes that refuse the gateway's user.
        """
        self.refusing = names
        self._known_since = None

    def stop(self) -> None:
        """Ask no more; who waits is told what is known by now."""
        if self._patience is not None:
            self._tell()

    def _begin(self) -> None:
        self._heard = {}
        self._patience = self._clock.callLater(_PATIENCE, self._notice)
        # A node that refuses the gateway's user is not asked: each request would show it the wrong password.
        asked = [client for client in self._clients if str(client) not in self.refusing]
        self._asking = {str(client): Deferred.fromCoroutine(client.probe()) for client in asked}
        if not asked:
            self._tell()
        for name, asking in list(self._asking.items()):
            asking.addCallbacks(self._hear, self._hear_not, callbackArgs=(name,), errbackArgs=(name,))

    def _hear(self, _: None, name: str) -> None:
        self._note(name, True)

    def _hear_not(self, failure: Failure, name: str) -> None:
        if failure.check(CancelledError):
            return
        if not failure.check(UpstreamFailure):
            _log.failure("a node could not be asked how it does", failure=failure)
        self._note(name, False)

    def _note(self, name: str, is_up: bool) -> None:
        del self._asking[name]
        self._heard[name] = is_up
        self._notice()

    def _notice(self) -> None:
        """Whether all has been heard, or enough."""
        is_late = self._patience is not None and not self._patience.active()
        if not self._asking or (is_late and any(self._heard.values())):
            self._tell()

    def _tell(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None
        late, self._asking = self._asking, {}
        for asking in late.values():
            asking.cancel()
        names = [str(client) for client in self._clients]
        self._known = {name: self._heard.get(name, False) and name not in self.refusing for name in names}
        self._known_since = self._clock.seconds()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._known)
