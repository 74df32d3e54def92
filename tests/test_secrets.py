"""Whatever is written, there is no secret in it: a real gateway, everything that it says, read to the last byte."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from attrs import evolve

from tests.clients.served import DATABASE, Served
from tests.nodes import UNMEASURED
from tests.running import ANY_PORT, curl, exchange, nobody, running
from txcouchdl.links import Link, signing_key

TOKEN = "pssst-this-is-the-token"
GUESS = "pssst-this-is-a-guess"
SECRET = "pssst-the-secret-of-the-links-of-this-gateway"
PASSWORD = "pssst-the-password"
LINK = Link(database=DATABASE, document_id="d", attachment="x.bin", expires=4_000_000_000)


@pytest.fixture(params=["--workers=1", "--workers=2"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """All that a gateway and its helpers have written, once it has ended, the access log and metrics among it."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "couchdl.toml").write_text('link-secret-file = "secret"\naccess-log-format = "json"\n')
    admin = "tcp:0:interface=127.0.0.1"
    options = ["--store=store", f"--store-listen={ANY_PORT}", f"-l{ANY_PORT}", f"--admin-listen={admin}"]
    options += ["--config=couchdl.toml", "--access-log=access.log", request.param]
    with running(tmp_path, *options, **UNMEASURED) as process:
        served = Served(process, tmp_path / "store")
        served._revs["d"] = served._call("PUT", f"/{DATABASE}/d", f'{{"download_token": "{TOKEN}"}}'.encode())["rev"]
        served.put("d", "x.bin", b"bytes", "text/html")
        said = [fetched.body.decode() + repr(fetched.headers) for fetched in map(curl, addresses(served.port))]
        for raw in spoiled():
            said.append(repr(exchange(served.port, raw)))
        said.append(curl(f"http://127.0.0.1:{process.port('Admin')}/_metrics").body.decode())
        password = (tmp_path / "store" / "admin").read_text().strip()
        process.stop()
        said += [process.text(), (tmp_path / "access.log").read_text()]
        assert "twistd" in said[-2] or "couchdl" in said[-2]
        assert said[-1].count("\n") >= len(addresses(0))
        yield "\n".join(said).replace(password.rpartition(":")[2], PASSWORD)


def addresses(port: int) -> list[str]:
    """Right and wrong, in every way in which a secret may be shown."""
    base = f"http://127.0.0.1:{port}/{DATABASE}/d/x.bin"
    keys = (signing_key(each.encode(), SECRET.encode()) for each in (TOKEN, GUESS))
    links = [
        evolve(LINK, attachment=name, expires=end).query(key)
        for key in keys
        for name in ("x.bin", None)
        for end in (1, LINK.expires)
    ]
    return [
        *(f"{base}?token={each}" for each in (TOKEN, GUESS)),
        *(f"{base}?{each}" for each in links),
        f"{base}?Token={TOKEN}",
        f"{base}?{TOKEN}",
        f"{base}?token={TOKEN}&rev={quote('1-' + TOKEN)}",
        f"{base}?token={TOKEN}&digest={GUESS}",
    ]


def spoiled() -> list[bytes]:
    close = b"Host: h\r\nConnection: close\r\n\r\n"
    return [
        b"GET /db/d/x.bin?token=%b HTTP/1.1\r\nAuthorization: Bearer %b\r\n%b" % (*2 * [TOKEN.encode()], close),
        b"GET /db/d/x.bin HTTP/1.1\r\nAuthorization: Bearer %b\r\nReferer: http://h/?token=%b\r\n%b"
        % (*2 * [TOKEN.encode()], close),
        b"%b nonsense\r\n\r\n" % TOKEN.encode(),
        b"GET /?%b HTTP/1.1\r\n%b\r\n\r\n" % (*2 * [TOKEN.encode()],),
    ]


def test_nothing_that_is_written_has_a_secret_in_it(written: str) -> None:
    signatures = {address.partition("signature=")[2] for address in addresses(0)} - {""}
    assert len(signatures) == 8
    for secret in (TOKEN, GUESS, SECRET, PASSWORD, *signatures):
        assert secret not in written


def test_a_start_that_fails_tells_no_secret(tmp_path: Path) -> None:
    with (
        nobody() as port,
        running(tmp_path, "-c", f"http://adm:{PASSWORD}@127.0.0.1:{port}", f"-l{ANY_PORT}", **UNMEASURED) as process,
    ):
        assert curl(f"http://127.0.0.1:{process.port()}/db/d/x?token={TOKEN}").status == 503
        process.stop()
        assert not [each for each in (TOKEN, PASSWORD) if each in process.text()]
