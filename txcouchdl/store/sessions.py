"""
The sender of a request: the admin, by Basic authentication or by the cookie of a session, or nobody (pure).

A session is a cookie ``AuthSession`` in CouchDB's form: base64url of ``name:time:signature``, with the time of the
login in hexadecimal seconds. The store keeps no list of sessions. A cookie is valid for ten minutes, or until the
process ends, whose secret signs it. As in CouchDB, the answer to a request with a cookie that is older than a minute
brings a new one.
"""

import binascii
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from attrs import field, frozen

from txcouchdl.store.answers import bad_request
from txcouchdl.store.credentials import Caller, Credentials

COOKIE = b"AuthSession"

#: The admin's.
ROLES = ["_admin"]

#: Seconds that a session lasts: CouchDB's default.
LIFETIME = 600

#: Seconds after which a session is renewed: as in CouchDB, a tenth of the above.
_FRESH = 60

_TIME = re.compile(rb"[0-9A-Fa-f]{1,12}")


@frozen
class Identity:
    """
    :ivar handler: CouchDB's name for the kind of authentication; ``default`` is Basic.
    :ivar renewal: the value of a cookie to set; ``None`` for none.
    """

    caller: Caller
    handler: str | None = None
    renewal: bytes | None = field(default=None, repr=False)

    @property
    def is_admin(self) -> bool:
        return self.caller is Caller.ADMIN


@frozen
class Sessions:
    """
    :ivar admin: the only user.
    :ivar secret: the key of the signatures.
    """

    admin: Credentials
    secret: bytes = field(repr=False)

    def begin(self, now: float) -> bytes:
        """Return the cookie's value for a session of the admin that begins now."""
        return self._sign(b"%b:%X" % (self.admin.name.encode("utf-8"), int(now)))

    def identify(self, authorization: bytes | None, cookie: bytes | None, now: float) -> Identity:
        """
        Identify the caller. A valid session takes precedence over Basic authentication, as in CouchDB.

        :param authorization: the Authorization header, or ``None``.
        :param cookie: the value of the cookie ``AuthSession``, or ``None``.
        :raises Refusal: 400 for a malformed cookie.
        """
        age = self._age(cookie.strip(b'"'), now) if cookie else None
        if age is not None and age < LIFETIME:
            return Identity(Caller.ADMIN, "cookie", None if age <= _FRESH else self.begin(now))
        caller = self.admin.judge(authorization)
        return Identity(caller, "default" if caller is Caller.ADMIN else None)

    def describe(self, identity: Identity) -> dict[str, object]:
        """Return the JSON of ``GET /_session`` for a caller."""
        user: dict[str, object] = {"name": None, "roles": []}
        if identity.is_admin:
            user = {"name": self.admin.name, "roles": ROLES}
        info: dict[str, object] = {"authentication_handlers": ["cookie", "default"]}
        if identity.handler is not None:
            info["authenticated"] = identity.handler
        return {"ok": True, "userCtx": user, "info": info}

    def _age(self, cookie: bytes, now: float) -> float | None:
        """:returns: seconds since the login; ``None`` for a cookie that is not ours."""
        try:
            decoded = urlsafe_b64decode(cookie + b"=" * (-len(cookie) % 4))
            name, time, _ = decoded.split(b":", 2)
        except (binascii.Error, ValueError):
            raise bad_request("Malformed AuthSession cookie. Please clear your cookies.") from None
        is_signed = hmac.compare_digest(cookie, self._sign(name + b":" + time))
        if not is_signed or name != self.admin.name.encode("utf-8") or not _TIME.fullmatch(time):
            return None
        return now - int(time, 16)

    def _sign(self, session: bytes) -> bytes:
        signature = hmac.digest(self.secret, session, "sha256")
        return urlsafe_b64encode(session + b":" + signature).rstrip(b"=")


def set_cookie(value: bytes, is_secure: bool) -> tuple[bytes, bytes]:
    """
    Return the header that sets the cookie, or removes it if the value is empty.

    :param is_secure: whether the client came by TLS.
    """
    age = LIFETIME if value else 0
    attributes = b"; Version=1; Max-Age=%d; Path=/; HttpOnly; SameSite=Strict" % age
    return b"Set-Cookie", COOKIE + b"=" + value + attributes + (b"; Secure" if is_secure else b"")
