"""A line as an agent: what treq's calls become."""

from tests.couch.wire.nodes import PORT, Node, Taker, answer, outcome
from tests.network import MemoryLines, Network
from txcouchdl.couch.wire.agent import LeanClient, LineAgent
from txcouchdl.couch.wire.requests import RequestHead


def test_a_url_goes_out_as_it_stands_behind_its_base() -> None:
    network, node = Network(), Node()
    network.listen(PORT, node)
    base = f"http://couch_db:{PORT}"
    agent = LineAgent(MemoryLines(network).to(base), base, RequestHead("/prefix", {"Host": "couch_db"}))
    asked = LeanClient(agent).get(f"{base}/db/a%2Fb%20c?rev=1-%C3%BC")
    network.run()
    assert node.asked == [[b"GET /prefix/db/a%2Fb%20c?rev=1-%C3%BC HTTP/1.1\r\nHost: couch_db\r\n\r\n"]]
    node.connections[0].say(answer(b"body"))
    network.run()
    taker = Taker()
    outcome(asked).deliverBody(taker)
    assert taker.received == b"body"
