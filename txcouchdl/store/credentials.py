"""The one admin, and who a request says it is (FINDINGS, section 7)."""

import binascii
import hmac
from base64 import b64decode
from enum import Enum

from attrs import field, frozen

from txcouchdl.store.answers import Refusal


class Caller(Enum):
    """Who asks."""

    ADMIN = "the admin"
    NOBODY = "no credentials"
    IMPOSTOR = "credentials that are not the admin's"


@frozen
class Credentials:
    """
    The admin's name and password. A name has no colon: Basic authentication could not carry it.
    """

    name: str = field()
    password: str = field(repr=False)

    @name.validator
    def _has_no_colon(self, _attribute: object, value: str) -> None:
        if ":" in value:
            raise ValueError("a user name cannot contain a colon")

    def match(self, name: str, password: str) -> bool:
        """Tell whether these are the admin's, in a time that does not depend on the part that is wrong."""
        same_name = hmac.compare_digest(name.encode("utf-8"), self.name.encode("utf-8"))
        return hmac.compare_digest(password.encode("utf-8"), self.password.encode("utf-8")) and same_name

    def judge(self, authorization: bytes | None) -> Caller:
        """
        Compared in a time that does not depend on what is wrong.

        :param authorization: the Authorization header, or ``None``. Anything but Basic counts as no
            credentials.
        """
        scheme, _, encoded = (authorization or b"").partition(b" ")
        if scheme.lower() != b"basic":
            return Caller.NOBODY
        try:
            given = b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return Caller.IMPOSTOR
        if b":" not in given:
            return Caller.NOBODY
        expected = f"{self.name}:{self.password}".encode()
        return Caller.ADMIN if hmac.compare_digest(given, expected) else Caller.IMPOSTOR


def unauthorized(caller: Caller, of_database: bool) -> Refusal:
    """
    The refusal for a caller who is not the admin. No WWW-Authenticate, as CouchDB: browsers would ask their
    user.

    :param of_database: whether a database was asked for, or the server.
    """
    if caller is Caller.IMPOSTOR:
        return Refusal(401, "unauthorized", "Name or password is incorrect.")
    if of_database:
        return Refusal(401, "unauthorized", "You are not authorized to access this db.")
    return Refusal(401, "unauthorized", "You are not a server admin.")
