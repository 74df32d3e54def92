"""The one table: every error has its answer, and no answer repeats what an error says."""

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import txcouchdl
from tests import strategies
from txcouchdl.couch import errors as couch_errors
from txcouchdl.couch.documents import BadDocument
from txcouchdl.gateway import errors
from txcouchdl.gateway.errors import INTERNAL_ERROR, ErrorAnswer, Refusal, answer_for
from txcouchdl.gateway.plan import plan_error


def _below(kind: type[couch_errors.DownloadError]) -> Iterator[type[couch_errors.DownloadError]]:
    for child in kind.__subclasses__():
        # Those that tests make up are not ours to answer.
        if child.__module__.startswith("txcouchdl."):
            yield child
            yield from _below(child)


# A subclass exists as soon as its module has been imported, and not before.
for _package in ("couch", "gateway", "protocol"):
    for _module in pkgutil.iter_modules([f"{txcouchdl.__path__[0]}/{_package}"], f"txcouchdl.{_package}."):
        importlib.import_module(_module.name)

_FAILURES = [couch_errors.UpstreamFailure, *_below(couch_errors.UpstreamFailure)]
_REFUSALS = [*_below(Refusal)]
_ALL = [couch_errors.DownloadError, *_below(couch_errors.DownloadError)]


def test_the_walk_finds_them() -> None:
    assert {BadDocument, couch_errors.CorruptAttachment, errors.Forbidden, Refusal} < set(_ALL)
    assert len(_FAILURES) >= 9
    assert len(_REFUSALS) >= 7
    assert {couch_errors.DownloadError, Refusal, *_FAILURES, *_REFUSALS} == set(_ALL), "a fourth branch?"


@pytest.mark.parametrize("kind", _REFUSALS)
def test_a_refusal_is_the_clients_fault(kind: type[couch_errors.DownloadError]) -> None:
    assert 400 <= answer_for(kind()).status < 500


@pytest.mark.parametrize("kind", _FAILURES)
def test_a_failure_is_not_the_clients_nor_ours(kind: type[couch_errors.DownloadError]) -> None:
    """Never 401 or 403, whatever CouchDB said to us; never the 500 of a fault of ours."""
    expected = {404} if kind is couch_errors.RevisionGone else {502, 503, 504}
    assert answer_for(kind()).status in expected


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        (errors.Forbidden, 403, "forbidden"),
        (errors.NoSuchAttachment, 404, "not_found"),
        (errors.NoSuchRevision, 404, "not_found"),
        (errors.NoAddress, 404, "not_found"),
        (errors.BadTarget, 400, "bad_request"),
        (errors.BadRevision, 400, "bad_request"),
        (errors.MethodNotAllowed, 405, "method_not_allowed"),
        (couch_errors.UpstreamTimeout, 504, "gateway_timeout"),
        (couch_errors.UpstreamUnavailable, 503, "service_unavailable"),
        (couch_errors.NoNodeAvailable, 503, "service_unavailable"),
        (couch_errors.Overloaded, 503, "service_unavailable"),
        (couch_errors.UpstreamRefusedUs, 502, "bad_gateway"),
        (couch_errors.BadUpstream, 502, "bad_gateway"),
        (couch_errors.AttachmentChanged, 502, "bad_gateway"),
        (couch_errors.CorruptAttachment, 502, "bad_gateway"),
        (BadDocument, 502, "bad_gateway"),
        (couch_errors.DownloadError, 500, "internal_server_error"),
    ],
)
def test_statuses(kind: type[couch_errors.DownloadError], status: int, error: str) -> None:
    assert (answer_for(kind()).status, answer_for(kind()).error) == (status, error)


_PREDECESSORS = {"Incorrect download token or unexisting document or database", "Document is missing attachment"}


def test_the_predecessors_words() -> None:
    """couchdb_download_token's, to the letter."""
    assert answer_for(errors.Forbidden()).reason == "Incorrect download token or unexisting document or database"


def test_a_405_says_what_is_allowed() -> None:
    """RFC 9110 section 15.5.6."""
    assert dict(answer_for(errors.MethodNotAllowed()).headers) == {"Allow": "GET, HEAD, OPTIONS"}


def test_a_fault_of_ours() -> None:
    assert (INTERNAL_ERROR.status, INTERNAL_ERROR.error) == (500, "internal_server_error")


@given(st.sampled_from(_ALL), strategies.telltale_secrets)
def test_an_answer_repeats_nothing(kind: type[couch_errors.DownloadError], secret: str) -> None:
    told = answer_for(kind(secret))
    assert told == answer_for(kind())
    plan = plan_error(told)
    assert secret not in repr(plan)
    assert secret not in repr(told)


@pytest.mark.parametrize("kind", _ALL)
def test_a_body_is_couchdb_shaped(kind: type[couch_errors.DownloadError]) -> None:
    told = answer_for(kind())
    assert told.body.endswith(b"}\n")
    assert b"\n" not in told.body[:-1]
    read = json.loads(told.body)
    inherited = {} if told.title is None else {"title": told.title, "description": told.reason}
    assert read == {"error": told.error, "reason": told.reason, **inherited}
    assert list(read) == ["error", "reason", *inherited]
    assert (told.title is not None) == (told.reason in _PREDECESSORS and told.status != 401)
    assert told.error.isidentifier()
    assert told.reason.strip() == told.reason != ""


@given(strategies.hostile_names, strategies.hostile_names)
def test_any_text_makes_a_body(error: str, reason: str) -> None:
    body = ErrorAnswer(400, error, reason).body
    assert body.isascii()
    # In JSON two halves of a surrogate pair that follow each other are one character.
    assert json.loads(body) == {"error": _joined(error), "reason": _joined(reason)}


def _joined(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@pytest.mark.parametrize("kind", _ALL)
def test_an_error_is_a_plan_that_may_not_be_kept(kind: type[couch_errors.DownloadError]) -> None:
    told = answer_for(kind())
    plan = plan_error(told)
    assert (plan.status, plan.ranges, plan.trailer, plan.content_length) == (told.status, (), told.body, len(told.body))
    headers = dict(plan.headers)
    assert len(headers) == len(plan.headers)
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    # A 404 may be kept without being asked to, and the next right token would meet it.
    assert headers["Cache-Control"] == "no-store"
    assert set(told.headers) <= set(plan.headers)


def test_a_subclass_has_its_bases_answer() -> None:
    class Odd(couch_errors.UpstreamTimeout):
        pass

    assert answer_for(Odd()) == answer_for(couch_errors.UpstreamTimeout())


@pytest.mark.parametrize("kind", _FAILURES)
@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.2, 1.0, 4.2, 5.0, 5.1, 32.0, 1e9])
def test_a_client_comes_again_soon_after_an_outage(kind: type[couch_errors.DownloadError], seconds: float) -> None:
    """However long a node has been down, it may be back at any moment."""
    error = kind()
    if hasattr(error, "retry_after"):
        error.retry_after = seconds
    answer = answer_for(error)
    if answer.status in (503, 504):
        (told,) = [value for name, value in answer.headers if name == "Retry-After"]
        assert int(told) in range(1, 6)
        assert not hasattr(error, "retry_after") or int(told) >= min(seconds, 5)
