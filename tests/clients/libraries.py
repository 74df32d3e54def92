"""Clients that are libraries, as far as more than one test needs them. They wait: call them in a thread."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec
import requests

from tests.running import PATIENCE


def get(url: str, fields: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """With requests. :return: status, header fields and body; the connection is closed."""
    with _session() as session, session.get(url, headers=fields, timeout=PATIENCE) as response:
        return response.status_code, response.headers, response.content


def begin(url: str) -> tuple[bytes, str]:
    """With requests, until the answer breaks off. :return: what came, and the ETag."""
    received = b""
    with _session() as session, session.get(url, stream=True, timeout=PATIENCE) as response:
        try:
            for piece in response.iter_content(2**16):
                received += piece
        except requests.exceptions.ChunkedEncodingError:
            return received, response.headers["ETag"]
    raise AssertionError("the answer is whole")


def _session() -> requests.Session:
    session = requests.Session()
    # Neither proxies nor passwords of this user.
    session.trust_env = False
    return session


@contextmanager
def file_system() -> Iterator[Any]:
    """fsspec's, of HTTP; its connections end with it."""
    it = fsspec.filesystem("http", skip_instance_cache=True)
    try:
        yield it
    finally:
        it.close_session(it.loop, it._session)
