"""Whether CouchDB accepts the gateway's user, asked without a reactor: before the service starts, there is none."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from txcouchdl.couch.nodes import Node
from txcouchdl.couch.session import MAX_SESSION, Session, Verdict, described_user, read_session
from txcouchdl.settings import StartError

#: Seconds for each step: a connection, and each piece of an answer.
_TIMEOUT: Final = 5.0


class NodeUnreachable(Exception):
    """A node cannot be asked: one sentence."""


def check_login(node: Node) -> None:
    """
    Ask a node once: CouchDB locks a user out who shows wrong passwords.

    :raises StartError: if the node refuses the user.
    :raises NodeUnreachable: if it does not answer.
    """
    try:
        session = _ask(node)
    except (OSError, HTTPException, ValueError) as error:
        raise NodeUnreachable(f"CouchDB at {node} cannot be reached: {error or type(error).__name__}") from None
    if session.verdict is Verdict.REFUSED:
        user = described_user(node.user)
        raise StartError(f"CouchDB at {node} refuses {user} (/_session: {session.status}): no download can work")


def _ask(node: Node) -> Session:
    url = urlsplit(node.base)
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = connect(url.hostname or "", url.port, timeout=_TIMEOUT)
    try:
        headers = {"Accept": "application/json"}
        if node.authorization is not None:
            headers["Authorization"] = node.authorization
        connection.request("GET", f"{url.path}/_session", headers=headers)
        response = connection.getresponse()
        return read_session(response.status, response.read(MAX_SESSION), node.user)
    finally:
        connection.close()
