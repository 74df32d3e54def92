"""What browsers are told about an attachment: its type, and what it may do."""

import attrs
import pytest

from tests.gateway.house import House
from tests.scripted import Stored
from txcouchdl.couch.documents import AttachmentStub, Digest, Storage
from txcouchdl.gateway.description import Description, Presentation, sent_type

_STUB = AttachmentStub("f", "text/plain", Digest(bytes(16)), Storage.IDENTITY, 10, 10)


def _fields(stub: AttachmentStub, presentation: Presentation = Presentation()) -> dict[str, str]:  # noqa: B008 (frozen)
    return dict(Description(stub, presentation).fields("bytes"))


@pytest.mark.parametrize(
    ("name", "content_type", "sent"),
    [
        # What the stub says is what counts.
        ("a.flac", "audio/x-flac", "audio/x-flac"),
        ("a.html", "text/plain", "text/plain"),
        ("a.mp4", "nonsense", "nonsense"),
        # Where it says nothing, the name tells.
        ("a.flac", None, "audio/flac"),
        ("a.flac", "", "audio/flac"),
        ("a.flac", "application/octet-stream", "audio/flac"),
        ("a.flac", "Application/Octet-Stream; charset=binary", "audio/flac"),
        # One that would break out of the field says nothing either.
        ("a.flac", "text/html\r\nX: y", "audio/flac"),
        # And where the name tells nothing, there is what there was.
        ("a", "application/octet-stream", "application/octet-stream"),
        ("a", "Application/Octet-Stream", "Application/Octet-Stream"),
        ("a", None, None),
    ],
)
def test_types(name: str, content_type: str | None, sent: str | None) -> None:
    stub = attrs.evolve(_STUB, name=name, content_type=content_type)
    assert sent_type(stub) == sent
    assert _fields(stub).get("Content-Type") == sent


ACTIVE = [
    *("text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml"),
    *(
        "audio/x+xml",
        "video/x+xml; y=z",
        "multipart/x-mixed-replace",
        "application/rss+xml",
        "application/pdf",
        "text/pdf",
        "multipart/related",
        "application/javascript",
        "nonsense",
    ),
]


@pytest.mark.parametrize("content_type", [*ACTIVE, None, "text/html, audio/mpeg"])
def test_nothing_active_acts_as_the_gateways_origin(content_type: str | None) -> None:
    fields = _fields(attrs.evolve(_STUB, content_type=content_type))
    policy = fields["Content-Security-Policy"].split("; ")
    assert "sandbox" in policy, "of no origin, without scripts"
    assert "default-src 'none'" in policy
    assert fields["X-Content-Type-Options"] == "nosniff"


def test_the_policies_word_for_word() -> None:
    """What is played may be read again; what is looked at may have its own pictures and looks."""
    policy = "default-src 'none'; form-action 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'"
    for content_type, expected in (("video/mp4", policy), ("text/html", f"sandbox; {policy}")):
        assert _fields(attrs.evolve(_STUB, content_type=content_type))["Content-Security-Policy"] == expected


@pytest.mark.parametrize("content_type", ["application/pdf", "text/html", "video/mp4"])
def test_several_ranges_are_shown_as_the_attachment_is(content_type: str) -> None:
    description = Description(attrs.evolve(_STUB, content_type=content_type), Presentation.parse(["text/html"]))
    several = dict(description.fields("bytes", "multipart/byteranges; boundary=x"))
    assert several == dict(description.fields("bytes")) | {"Content-Type": "multipart/byteranges; boundary=x"}


@pytest.mark.parametrize(
    "content_type",
    [
        *("multipart/x-mixed-replace", "multipart/related", "message/rfc822", "unknown/unknown", "*/*", None, "bogus"),
        *("application/pdf", "text/pdf", "Application/PDF;x=y", "application/octet-stream", "application/zip"),
        *("text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "text/xml", "application/xml", "text/xsl"),
        *("image/svg+xml", "application/rss+xml", "application/mathml+xml", "video/x+xml", "application/xml-dtd"),
        *("text/plain, text/html", "text/html, text/plain", "text/html bogus", "text/html(x)", "text /html"),
        *("text/rdf", "text/vnd.wap.wml", "text/x-server-parsed-html", "application/json, text/html"),
    ],
)
def test_what_may_have_links_is_saved(content_type: str) -> None:
    assert _fields(attrs.evolve(_STUB, content_type=content_type))["Content-Disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "Text/Plain; charset=utf-8", "text/csv", "text/markdown", "text/x-python", "text/vtt"),
        *("video/mp4", "audio/ogg", "application/ogg", "application/vnd.apple.mpegurl", "image/png", "image/x-foo"),
        *("application/json", "application/ld+json", "text/javascript", "application/javascript", "font/woff2"),
    ],
)
def test_everything_else_is_shown(content_type: str | None) -> None:
    assert _fields(attrs.evolve(_STUB, content_type=content_type))["Content-Disposition"].startswith("inline;")


@pytest.mark.parametrize("content_type", ["application/pdf", "Application/PDF; x=y", "multipart/mixed"])
def test_types_that_are_to_be_shown(content_type: str) -> None:
    inline = Presentation.parse(["Application/pdf", "text/html", "multipart/mixed"])
    fields = _fields(attrs.evolve(_STUB, content_type=content_type), inline)
    assert fields["Content-Disposition"].startswith("inline;")
    assert "Content-Security-Policy" not in fields
    assert fields["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "content_type", ["application/xhtml+xml", "application/pdf, text/html", "application/pdfx", None]
)
def test_others_stay_in_their_sandbox(content_type: str | None) -> None:
    inline = Presentation.parse(["application/pdf"])
    policy = _fields(attrs.evolve(_STUB, content_type=content_type), inline)["Content-Security-Policy"]
    assert policy.startswith("sandbox;")


@pytest.mark.parametrize(
    "text", ["", "pdf", "*", "text/*,", "text/html; charset=utf-8", " text/html", "a/b/c", "text/html\n"]
)
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(ValueError, match="no media type such as"):
        Presentation.parse([text])


def test_on_the_wire() -> None:
    house = House({"p.pdf": Stored(b"%PDF-1.4"), "s.flac": Stored(b"fLaC", None)}, inline=["application/pdf"])
    paper, sound = house.get("p.pdf"), house.get("s.flac")
    assert (paper["Content-Type"], paper["Content-Disposition"]) == ("application/pdf", 'inline; filename="p.pdf"')
    assert "content-security-policy" not in paper.headers
    assert sound["Content-Type"] == "audio/flac"


def test_download_on_the_wire() -> None:
    house = House({"v.mp4": Stored(b"0123456789", "video/mp4")})
    target = "/db/doc/v.mp4?token=s3cret"
    assert house.ask(target)["Content-Disposition"] == 'inline; filename="v.mp4"'
    assert house.ask(f"{target}&download")["Content-Disposition"] == 'attachment; filename="v.mp4"'
    assert house.ask(f"{target}&download=")["Content-Disposition"] == 'attachment; filename="v.mp4"'
    named = house.ask(f"{target}&download=%C3%BC+1.mp4", {"Range": "bytes=2-3"})
    assert named["Content-Disposition"] == "attachment; filename=\"_ 1.mp4\"; filename*=UTF-8''%C3%BC%201.mp4"
    assert (named.status, named.body) == (206, b"23")
    assert house.ask(f"{target}&download=%FF.mp4")["Content-Disposition"].endswith("filename*=UTF-8''%EF%BF%BD.mp4")


def test_a_pinned_address_on_the_wire() -> None:
    house = House({"v.mp4": Stored(b"0123456789", "video/mp4")})
    pin = house.doc.attachments["v.mp4"].stub["digest"]
    target = f"/db/doc/v.mp4?token=s3cret&digest={pin}"
    assert house.ask(target, {"Range": "bytes=5-"}).body == b"56789"
    house.doc.attachments["v.mp4"] = Stored(b"another one", "video/mp4")
    assert house.ask(target, {"Range": "bytes=5-"}).status == 412
    assert house.ask(target, method="HEAD").status == 412
    assert house.ask(target.replace("s3cret", "guess")).status == 403, "before the token is right nothing is told"
