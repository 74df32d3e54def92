"""
HTTP as downloads need it: the bytes as they are, redirects with care, and an end to every wait.

Nothing is decoded on the way: who resumes needs the representation's own bytes. A token goes to the origin that it is
for, and nowhere else.
"""

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen
from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IAgentEndpointFactory, IResponse

from txcouchdl import __version__
from txcouchdl.cli.bodies import Body, End, Take
from txcouchdl.cli.connections import Pool
from txcouchdl.cli.heads import Head
from txcouchdl.cli.locations import BadLocation, Location
from txcouchdl.cli.outcomes import Passing, Unusable

#: Redirects that are followed, one after the other.
MOST_REDIRECTS: Final = 5

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FIELDS: Final = {"Accept-Encoding": "identity", "User-Agent": f"couchdl/{__version__}"}


@frozen
class Token:
    """
    What opens a place, to be shown in a header field.

    :ivar text: ASCII, without white space.
    """

    text: str = field(repr=False)


class Answer:
    """The head of an answer that has come, and its body, which is still to be taken or dropped."""

    def __init__(self, head: Head, response: IResponse, pool: Pool, timeout: float, clock: IReactorTime) -> None:
        self.head = head
        self._response = response
        self._pool = pool
        self._timeout = timeout
        self._clock = clock
        self._is_taken = False

    async def deliver(self, take: Take) -> End:
        """
        :raises Passing: if it breaks off, or stalls.
        """
        self._is_taken = True
        body = self._body(take)
        self._response.deliverBody(body)
        return await body.ended

    def _body(self, take: Take) -> Body:
        return Body(take, lambda: self._pool.abort(self._response), self._timeout, self._clock)

    async def read(self, most: int) -> bytes:
        """
        All of it.

        :raises Unusable: if it has more than so many bytes.
        :raises Passing: as :meth:`deliver`, and if it may not be all.
        """
        pieces = bytearray()

        def take(data: bytes) -> bool:
            pieces.extend(data)
            return len(pieces) <= most

        end = await self.deliver(take)
        if len(pieces) > most:
            raise Unusable(f"the answer is longer than {most} bytes")
        if end is not End.WHOLE:
            raise Passing("the connection broke off")
        return bytes(pieces)

    def drop(self) -> None:
        """Nobody wants the body: the connection ends. Does nothing where it was taken."""
        if self._is_taken:
            return
        self._is_taken = True
        body = self._body(lambda _: False)
        body.ended.addErrback(lambda _: None)
        self._response.deliverBody(body)
        body.ended.cancel()


class Client:
    """
    :param token: what is shown to ``origin``, where the address has no secret of its own.
    :param timeout: seconds without a byte after which an answer counts as lost.
    :param endpoints: how connections are made; the usual way without it.
    """

    def __init__(
        self,
        reactor: Any,
        timeout: float,
        token: Token | None = None,
        connections: int = 1,
        endpoints: IAgentEndpointFactory | None = None,
    ) -> None:
        self._clock = reactor
        self._timeout = timeout
        self._token = token
        self._pool = Pool(reactor)
        self._pool.maxPersistentPerHost = connections
        self._agent: IAgent
        if endpoints is None:
            self._agent = Agent(reactor, connectTimeout=min(timeout, 30.0), pool=self._pool)
        else:
            self._agent = Agent.usingEndpointFactory(reactor, endpoints, self._pool)

    async def ask(
        self, method: str, location: Location, fields: Mapping[str, str], takes_codings: bool = False
    ) -> Answer:
        """
        The answer, behind as many redirects as are followed; of any status.

        :param takes_codings: whether the body may be a coding of the representation.
        :raises Passing: if none comes.
        :raises Unusable: if it cannot be made use of: a redirect that is not followed, or a coding.
        """
        token = None if location.opens_itself else self._token
        at = location
        for _ in range(MOST_REDIRECTS + 1):
            shown = token if at.origin == location.origin else None
            answer = await self._exchange(method, at, _fields(fields, shown))
            target = answer.head.fields.get("location")
            if answer.head.status not in _REDIRECTS or target is None:
                return answer if takes_codings else _undecoded(answer)
            answer.drop()
            at = _redirected(at, target)
        raise Unusable(f"the server redirects more than {MOST_REDIRECTS} times")

    async def _exchange(self, method: str, location: Location, headers: Headers) -> Answer:
        asked: Deferred[IResponse] = self._agent.request(method.encode("ascii"), location.url.encode("ascii"), headers)
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            asked.cancel()

        timer = self._clock.callLater(self._timeout, give_up)
        try:
            response = await asked
        # All that Twisted's client may raise is of the connection, and none of its texts are ours to show.
        except Exception as error:
            raise Passing("no answer came in time") if is_late else _trouble(error) from None
        finally:
            if timer.active():
                timer.cancel()
        names = response.headers.getAllRawHeaders()
        read = {name.decode("latin-1").lower(): b", ".join(lines).decode("latin-1") for name, lines in names}
        if response.length is not UNKNOWN_LENGTH:
            read.setdefault("content-length", str(response.length))
        return Answer(Head(response.code, read), response, self._pool, self._timeout, self._clock)

    def close(self) -> None:
        """End all connections, without waiting for anybody."""
        self._pool.close()


def _fields(fields: Mapping[str, str], token: Token | None) -> Headers:
    credentials = {} if token is None else {"Authorization": f"Bearer {token.text}"}
    pairs = {"Accept": "*/*", **_FIELDS, **fields, **credentials}
    return Headers({name.encode("ascii"): [value.encode("latin-1")] for name, value in pairs.items()})


def _undecoded(answer: Answer) -> Answer:
    if answer.head.is_encoded and answer.head.status in {200, 206}:
        answer.drop()
        raise Unusable("the server sends a coding of the file that was not asked for, rather than its bytes")
    return answer


def _redirected(at: Location, target: str) -> Location:
    try:
        return at.redirected(target)
    except BadLocation as error:
        raise Unusable(f"the server redirects, but {error.sentence}") from None


def _trouble(error: Exception) -> Exception:
    """What to make of a connection that could not be made, or broke before there was an answer."""
    causes = _causes(error)
    if any(isinstance(each, CancelledError) for each in causes):
        return CancelledError()
    if any(isinstance(each, VerificationError) or _is_untrusted(each) for each in causes):
        return Unusable("the server's certificate is not to be trusted")
    found = (sentence for kind, sentence in _SENTENCES for each in causes if isinstance(each, kind))
    return Passing(next(found, "the connection broke off before there was an answer"))


_SENTENCES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.DNSLookupError, "there is no such host, or nobody knows it now"),
    (errors.ConnectionRefusedError, "nobody answers there: connection refused"),
    (errors.ConnectError, "no connection can be made"),
)


def _causes(error: BaseException) -> list[BaseException]:
    """It, and all that it was made of."""
    reasons = [each.value for each in getattr(error, "reasons", ()) if isinstance(each, Failure)]
    known = [each for each in reasons if each is not None]
    return [error, *(cause for reason in known for cause in _causes(reason))]


def _is_untrusted(error: BaseException) -> bool:
    return isinstance(error, SSL.Error) and "certificate verify failed" in str(error)
