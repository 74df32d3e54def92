"""A bench to try the faulty proxy on, and what each fault does to an answer there."""

import random
from collections.abc import Sequence

from twisted.python.failure import Failure

from tests.faults import (
    AnswerStatus,
    Corrupt,
    Cut,
    Duplicate,
    DyingWords,
    EndlessBody,
    Fault,
    FaultyProxy,
    Hangup,
    Refuse,
    Schedule,
    Stall,
    Start,
    Surplus,
    Truncate,
)
from tests.gateway.house import NODE_PORT, Client, House
from tests.network import End, Network
from tests.scripted import DYING_WORDS, Script, ScriptedNode, Stored, answer

PROXY_PORT = 5000

#: More than goes at once.
BODY = random.Random(5).randbytes(100_000)
HEAD = answer(200, b"", length=len(BODY))
WHOLE = HEAD + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b'5\r\nhello\r\n1;x="y"\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n'

# What a proxy says by itself.
SENTENCE = b'{"error":"scripted","reason":"A fault."}\n'
JSON = {"Content-Type": "application/json"}

WORDS = len(DYING_WORDS)
FIN, RST = Hangup.FIN, Hangup.RST


class Bench:
    """A node that answers everything with one script, the proxy before it, and raw clients."""

    def __init__(self, *faults_: Fault, script: Script = (WHOLE,), schedule: Schedule | None = None) -> None:
        self.network = Network()
        self.node = ScriptedNode(faults=lambda _: script)
        self.network.listen(NODE_PORT, self.node)
        self.schedule = schedule or Schedule.of(*faults_)
        self.proxy = FaultyProxy(self.network.endpoint(NODE_PORT), self.schedule, self.network)
        self.network.listen(PROXY_PORT, self.proxy)

    def connect(self, port: int = PROXY_PORT) -> Client:
        client = Client()
        self.network.connect(port, client)
        return client

    def ask(self, client: Client | None = None, *fields: str, target: str = "/db/doc/f") -> Client:
        """Send a request, and let everything move."""
        client = client or self.connect()
        lines = "".join(f"{field}\r\n" for field in fields)
        client.transport.write(f"GET {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode())
        self.network.run()
        return client

    def leave(self, client: Client) -> None:
        """Let the client go; nothing of it stays."""
        client.transport.loseConnection()
        self.network.run()
        assert client.is_closed
        self.proxy.assert_at_rest()
        assert self.network.open_connections(NODE_PORT) == 0
        assert not self.network.calls

    @property
    def upstream(self) -> End:
        """The node's end of the last connection to it."""
        return [far for _, far in self.network.connections if far.address.port == NODE_PORT][-1]


def gateway_behind(schedule: Schedule, attachments: dict[str, Stored]) -> tuple[House, FaultyProxy]:
    """A gateway before a scripted node, and the proxy between them."""
    house = House(attachments)
    [proxy] = put_before(house, [schedule])
    return house, proxy


def put_before(house: House, schedules: Sequence[Schedule]) -> list[FaultyProxy]:
    """A proxy before each node of a house, with its schedule."""
    proxies = []
    for number, (node, schedule) in enumerate(zip(house.nodes, schedules, strict=True)):
        house.network.listen(PROXY_PORT + number, node)
        proxies.append(FaultyProxy(house.network.endpoint(PROXY_PORT + number), schedule, house.network))
        house.network.listen(NODE_PORT + number, proxies[-1])
    return proxies


def named(value: object) -> str:
    """A test's parameter in its name; the bytes are left out."""
    return str(value) if isinstance(value, Fault | Hangup | None) else "..."


def ending(client: Client) -> Hangup | None:
    """How the connection of a client has ended."""
    reason = client.transport.reason
    assert client.is_closed == (reason is not None)
    return None if reason is None else Hangup.of(Failure(reason))


def flipped(data: bytes, place: int, xor: int) -> bytes:
    return data[:place] + bytes([data[place] ^ xor]) + data[place + 1 :]


#: What the client receives, and how its connection ends.
ON_THE_WIRE: list[tuple[Fault, bytes, Hangup | None]] = [
    (Refuse(), b"", FIN),
    (Refuse(RST), b"", RST),
    (Cut(0), HEAD, FIN),
    (Cut(0, RST), HEAD, RST),
    (Cut(70_000), WHOLE[: len(HEAD) + 70_000], FIN),
    (Cut(70_000, RST), WHOLE[: len(HEAD) + 70_000], RST),
    (Cut(len(BODY)), WHOLE, FIN),
    (Cut(0, start=Start.HEAD), b"", FIN),
    (Cut(5, RST, start=Start.HEAD), HEAD[:5], RST),
    (Cut(80_000, start=Start.HEAD), WHOLE[:80_000], FIN),
    (Stall(0, start=Start.HEAD), b"", None),
    (Stall(10), HEAD + BODY[:10], None),
    (Truncate(1), WHOLE[:-1], FIN),
    (Truncate(len(BODY)), HEAD, FIN),
    (Truncate(7, lies=True), answer(200, BODY[:-7]), None),
    (DyingWords(0), HEAD + DYING_WORDS, FIN),
    (DyingWords(70_000), HEAD + BODY[:70_000] + DYING_WORDS, FIN),
    (DyingWords(len(BODY)), WHOLE + DYING_WORDS, FIN),
    (DyingWords(len(BODY) - WORDS), HEAD + BODY[:-WORDS] + DYING_WORDS + b"\n", FIN),
    (DyingWords(0, fill=True), HEAD + BODY[:-WORDS] + DYING_WORDS, FIN),
    (DyingWords(len(BODY) - WORDS + 1, fill=True), HEAD + BODY[: 1 - WORDS] + DYING_WORDS, FIN),
    (Duplicate(0, 3), HEAD + BODY[:3] + BODY, None),
    (Duplicate(65_000, 20_000), HEAD + BODY[:85_000] + BODY[65_000:], None),
    (Duplicate(len(BODY) - 1, 5), WHOLE + BODY[-1:], None),
    (Duplicate(0, 4, start=Start.HEAD), HEAD[:4] + WHOLE, None),
    (Corrupt(0), flipped(WHOLE, len(HEAD), 0x20), None),
    (Corrupt(len(BODY) - 1, 255), flipped(WHOLE, len(WHOLE) - 1, 255), None),
    (Corrupt(9, 1, start=Start.HEAD), flipped(WHOLE, 9, 1), None),
    (AnswerStatus(503), answer(503, SENTENCE, JSON), None),
    (AnswerStatus(404, closes=True), answer(404, SENTENCE, {**JSON, "Connection": "close"}), FIN),
    (Surplus(DYING_WORDS), WHOLE + DYING_WORDS, None),
    (EndlessBody(100_000), WHOLE + bytes(100_000), FIN),
]
