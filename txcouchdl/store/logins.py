"""The body of ``POST /_session`` -> a name and a password (pure)."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from attrs import field, frozen

from txcouchdl.store.answers import Refusal, bad_request
from txcouchdl.store.json_text import parse_json

#: The longest body in bytes that is kept for a caller other than the admin.
LONGEST_LOGIN = 4096

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


@frozen
class Login:
    """The name and password that a client sent."""

    name: str
    password: str = field(repr=False)


def parse_login(body: bytes, content_type: str | None) -> Login:
    """
    :param content_type: the header; a form or JSON.
    :raises Refusal: 415 or 400 if it is neither, or names nobody.
    """
    content_type = content_type or ""
    if content_type.startswith(_FORM):
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        return _login(dict(reversed(pairs)))
    if content_type.startswith(_JSON):
        members = parse_json(body)
        if not isinstance(members, dict):
            raise bad_request("Request body must be a JSON object")
        return _login(members)
    raise Refusal(415, "bad_content_type", f"Content-Type must be '{_FORM}' or '{_JSON}'")


def _login(members: Mapping[str, object]) -> Login:
    names = {members[key] for key in ("name", "username") if isinstance(members.get(key), str)}
    if not names:
        raise bad_request("request body must contain a username")
    if len(names) > 1:
        raise bad_request("request body contains different usernames")
    password = members.get("password", "")
    if not isinstance(password, str):
        raise bad_request("the password must be a string")
    return Login(str(names.pop()), password)
