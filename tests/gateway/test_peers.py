"""Whom a request is from: nobody chooses that, whatever is written into X-Forwarded-For."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from txcouchdl.gateway.peers import Site, TrustedProxies

_PROXIES = TrustedProxies.parse(["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48", "unix"])

# --- what is trusted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "peer", "is_trusted"),
    [
        ([], "127.0.0.1", False),
        ([], None, False),
        (["192.0.2.1"], "192.0.2.1", True),
        (["192.0.2.1"], "192.0.2.2", False),
        (["192.0.2.1"], None, False),
        (["192.0.2.0/24", "198.51.100.0/24"], "198.51.100.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["0.0.0.0/0"], "203.0.113.9", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::/0"], "2001:db8::1", True),
        (["::/0"], "192.0.2.1", False),
        (["2001:DB8::/32"], "2001:db8:0:1::1", True),
        (["::1"], "::1", True),
        (["127.0.0.1"], "::ffff:127.0.0.1", True),
        (["::ffff:127.0.0.1"], "127.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.255.0.1", True),
        (["::ffff:10.0.0.0/104"], "11.0.0.1", False),
        (["::ffff:10.0.0.0/104"], "::ffff:10.255.0.1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["unix"], None, True),
        (["unix"], "127.0.0.1", False),
        (["unix", "127.0.0.1"], "127.0.0.1", True),
        (["0.0.0.0/0", "::/0", "unix"], "no address", False),
    ],
)
def test_who_is_trusted(texts: list[str], peer: str | None, is_trusted: bool) -> None:
    proxies = TrustedProxies.parse(texts)
    assert (proxies.client_of(peer, "203.0.113.5") == "203.0.113.5") == is_trusted


def test_by_default_nobody_is_trusted() -> None:
    assert TrustedProxies() == TrustedProxies.parse([])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.1.2.3/8", "10.1.2.3/8 has host bits set: "),
        ("2001:db8::1/64", "has host bits set"),
        ("", "'' does not appear to be"),
        ("fe80::1%eth0", "'fe80::1%eth0' has a zone"),
        ("fe80::%1/10", "has a zone"),
    ],
)
def test_what_is_no_proxy(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"a trusted proxy is an IP address, a network .*, or unix$") as refused:
        TrustedProxies.parse(["10.0.0.0/8", text])
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *(" ", "localhost", "proxy.example", "*", "Unix", "unix ", "none", "10.0.0.0/33", "10.0.0.0/", "/8", "10"),
        *("10.0.0", "1.2.3.4/8/8", "1.2.3.4:80", "[::1]", "1.2.3.4,1.2.3.5", "01.2.3.4", "::g", "\u0663.1.1.1"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network: a trusted proxy is"):
        TrustedProxies.parse([text])


# --- the walk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        # Not trusted: its own word does not count.
        ("198.51.100.9", None, "198.51.100.9"),
        ("198.51.100.9", "203.0.113.5", "198.51.100.9"),
        ("198.51.100.9", "10.0.0.1", "198.51.100.9"),
        ("::ffff:198.51.100.9", None, "198.51.100.9"),
        ("2001:DB8:0:0::1", None, "2001:db8::1"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("no address", "203.0.113.5", "unknown"),
        # Trusted.
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "198.51.100.7, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "198.51.100.7, 203.0.113.5, 2001:db8:1::2, 192.0.2.1", "203.0.113.5"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "\t203.0.113.5 ,\t 10.0.0.2\t", "203.0.113.5"),
        ("::ffff:10.0.0.1", "203.0.113.5", "203.0.113.5"),
        (None, "203.0.113.5", "203.0.113.5"),
        (None, None, "unix"),
        (None, "garbage", "unix"),
        # What does not make sense ends the walk.
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, ", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.5, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, _hidden, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.5, unix", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5; 10.0.0.2", "10.0.0.1"),
    ],
)
def test_clients(peer: str | None, forwarded_for: str | None, client: str) -> None:
    assert _PROXIES.client_of(peer, forwarded_for) == client


def test_a_peer_of_a_unix_socket_that_is_not_trusted() -> None:
    assert TrustedProxies.parse(["0.0.0.0/0"]).client_of(None, "203.0.113.5") == "unix"


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.5:1", "203.0.113.5"),
        ("203.0.113.5:65535", "203.0.113.5"),
        ("2001:DB8::5", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("[2001:db8::5]:5678", "2001:db8::5"),
        ("::", "::"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("::FFFF:cb00:7105", "203.0.113.5"),
        ("[::ffff:203.0.113.5]:80", "203.0.113.5"),
        ("fe80::5%eth0", "fe80::5"),
        ("[fe80::5%25eth0]:80", "fe80::5"),
        *(
            (bad, "10.0.0.1")
            for bad in (
                *("203.0.113.5:", "203.0.113.5:123456", "203.0.113.5:-1", "203.0.113.5:x", "203.0.113.5:80:80"),
                *("[203.0.113.5]", "[203.0.113.5]:80", "[2001:db8::5", "2001:db8::5]", "[]", "[]:80", ":80", "[", ":"),
                *(
                    "[2001:db8::5]80",
                    "[2001:db8::5]:",
                    "[[2001:db8::5]]",
                    "x[2001:db8::5]",
                    "2001:db8::5:80:x",
                    "[2001:db8::5]:123456",
                ),
                *("203.0.113.05", "203.0.113", "203.0.113.256", "3405803781", "0xcb.0.113.5", "203.0.113.\u0665"),
                *("fe80::5%", '"203.0.113.5"', "for=203.0.113.5", "203.0.113.5/32", "203.0.113.5 x", "203.0.113.5\n"),
            )
        ),
    ],
)
def test_forms_of_an_address(entry: str, client: str) -> None:
    assert _PROXIES.client_of("10.0.0.1", f"198.51.100.7, {entry}") == client


def test_no_more_than_so_many_proxies_are_followed() -> None:
    assert _PROXIES.client_of("10.0.0.1", "203.0.113.5" + ", 10.0.0.2" * 31) == "203.0.113.5"
    assert _PROXIES.client_of("10.0.0.1", "203.0.113.5" + ", 10.0.0.2" * 32) == "10.0.0.2"
    assert _PROXIES.client_of("10.0.0.1", "," * 16_000 + "203.0.113.5") == "203.0.113.5"


@pytest.mark.parametrize(
    "entry", ["[" + ":" * 500_000, "[::1" * 100_000, "1" * 500_000, "1:" * 250_000, "1." * 250_000]
)
def test_a_long_entry_is_read_in_linear_time(entry: str) -> None:
    """Otherwise each of these would take minutes."""
    assert _PROXIES.client_of("10.0.0.1", entry) == "10.0.0.1"


# --- nobody chooses -----------------------------------------------------------------------------------------


def _is_ours(address: IPv4Address | IPv6Address) -> bool:
    return _PROXIES.client_of(str(address), "192.0.2.77") == "192.0.2.77"


_addresses = st.ip_addresses()
_strangers = _addresses.filter(lambda address: not _is_ours(address))
_ours = (
    st.ip_addresses(network="10.0.0.0/8")
    | st.ip_addresses(network="2001:db8:1::/48")
    | st.just(ip_address("192.0.2.1"))
)


@st.composite
def _spelled(draw: st.DrawFn, addresses: st.SearchStrategy[IPv4Address | IPv6Address]) -> tuple[str, str]:
    """An address as somebody may write it, and as it is."""
    address = draw(addresses)
    port = draw(st.integers(0, 65535))
    if isinstance(address, IPv4Address):
        forms = [f"{address}", f"{address}:{port}", f"::ffff:{address}", f"[::ffff:{address}]:{port}"]
    else:
        forms = [f"{address}", f"{address.exploded.upper()}", f"[{address}]", f"[{address}]:{port}", f"{address}%eth0"]
    is_mapped = isinstance(address, IPv6Address) and address.ipv4_mapped
    return draw(st.sampled_from(forms)), str(is_mapped or address)


_entries = (
    _spelled(_addresses).map(lambda spelled: spelled[0])
    | _ours.map(str)
    | st.sampled_from(["", "unknown", "_hidden", "unix", "[", "1.2.3.4:", "\x00", '"'])
    | st.text(max_size=20)
)
_fields = st.lists(_entries, max_size=40).map(", ".join) | st.text()


@given(_spelled(_strangers), st.none() | _fields)
def test_a_peer_that_is_not_trusted_is_itself(peer: tuple[str, str], field: str | None) -> None:
    bare = peer[0].partition("]")[0].removeprefix("[")
    assume(bare.count(":") != 1)  # A peer has no port in its text.
    assert _PROXIES.client_of(bare, field) == peer[1]


@given(_fields, _spelled(_strangers), st.lists(_spelled(_ours), max_size=5), st.none() | _ours.map(str))
@example("1.2.3.4", ("203.0.113.5", "203.0.113.5"), [], "10.0.0.1")
def test_a_client_behind_trusted_proxies_is_itself(
    forged: str, client: tuple[str, str], between: list[tuple[str, str]], peer: str | None
) -> None:
    """Whatever it forged: the first proxy has put its address behind that, and the others each other's."""
    seen = [client[0], *(proxy for proxy, _ in between)]
    assert _PROXIES.client_of(peer, ", ".join([forged, *seen])) == client[1]
    assert _PROXIES.client_of(peer, ", ".join(seen)) == client[1]


@given(st.none() | _addresses.map(str) | st.text(max_size=20), st.none() | _fields)
def test_whatever_comes_is_a_plain_text(peer: str | None, field: str | None) -> None:
    """It goes into the access log, and into the memory of those who guess."""
    client = _PROXIES.client_of(peer, field)
    if client not in {"unix", "unknown"}:
        address = ip_address(client)
        assert client == str(address)
        assert address.version == 4 or (not address.ipv4_mapped and address.scope_id is None)
    assert (client == "unix") <= (peer is None)


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("2a01:1:2:3:4:5:6:7", "2a01000100020003::"),
        ("2a01:1:2:3::", "2a01000100020003::"),
        ("unknown", "unknown"),
        ("unix", None),
        ("127.0.0.1", None),
        ("127.8.8.8", None),
        ("::1", None),
        # A proxy that names no client stands for many.
        ("10.1.2.3", None),
    ],
)
def test_the_address_that_limits_count(client: str, address: str | None) -> None:
    assert _PROXIES.limited_address(client) == address


# --- which site a client takes us for -----------------------------------------------------------------------

_OWN = Site("http", "gateway:8000")


@pytest.mark.parametrize(
    ("proto", "host", "site"),
    [
        (None, None, "http://gateway:8000"),
        ("https", None, "https://gateway:8000"),
        ("HTTPS", "files.example", "https://files.example"),
        (None, "files.example:8443", "http://files.example:8443"),
        ("https", "[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        # The nearest proxy's is the last.
        ("http, https", "evil.example, files.example", "https://files.example"),
        ("https,", "files.example,", "http://gateway:8000"),
        ("javascript", "files.example", "http://files.example"),
        ("", "", "http://gateway:8000"),
        ("https", "a/b", "https://gateway:8000"),
        ("https", "a@b", "https://gateway:8000"),
        ("https", "a b", "https://gateway:8000"),
        ("https", 'a"b', "https://gateway:8000"),
        ("https", "a:b", "https://gateway:8000"),
        ("https", "bücher.example", "https://gateway:8000"),
        ("https", "files.example\x85", "https://gateway:8000"),
    ],
)
def test_the_site_that_a_trusted_proxy_names(proto: str | None, host: str | None, site: str) -> None:
    for peer in ("10.1.2.3", None):
        assert _PROXIES.site_of(peer, _OWN, proto, host).url("/x") == f"{site}/x"


@pytest.mark.parametrize("peer", ["203.0.113.5", "no address"])
def test_nobody_else_names_a_site(peer: str) -> None:
    assert _PROXIES.site_of(peer, _OWN, "https", "evil.example") == _OWN


@pytest.mark.parametrize("host", [None, "", "a/b", "a b", "a@b", "<x>", "a" * 300, "x\n"])
def test_a_site_without_a_host_is_just_a_path(host: str | None) -> None:
    assert Site("https", host).url("/db/doc/") == "/db/doc/"
