"""Heads of requests, prepared but for what differs from one to the next. Pure."""

from collections.abc import Mapping


class RequestHead:
    """
    :param prefix: what the node's URL has before all targets; ASCII, as all that goes into a request.
    :param fields: of every request.
    """

    def __init__(self, prefix: str, fields: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if any(mark in value for value in fields.values() for mark in "\r\n"):
            raise ValueError("a field has more than one line")
        self._begin = f"GET {prefix}".encode("ascii")
        self._end = f" HTTP/1.1\r\n{lines}".encode("latin-1")

    def request(self, target: bytes, fields: bytes = b"") -> bytes:
        """
        :param target: its path and query, from behind the prefix; escaped.
        :param fields: more lines, each with its end.
        """
        return b"%b%b%b%b\r\n" % (self._begin, target, self._end, fields)
