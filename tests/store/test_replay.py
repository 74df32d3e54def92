"""The store beside a real CouchDB: every recorded exchange, in order."""

import json
import re
from collections import Counter

from tests.store.differences import DIFFERENT, NOT_COVERED, Difference
from tests.store.recording import (
    GENERATORS,
    Expectation,
    Recorded,
    expectation,
    load,
    observation,
    raw_request,
)
from tests.store.serving import ServedStore, in_reactor

_RECORDED = {recorded.id: recorded for recorded in load()}

#: A session that CouchDB signed; ours takes its place.
_COOKIE = re.compile(rb"AuthSession=YWRt[\w-]+")


def test_every_exchange_has_one_place() -> None:
    """None is listed twice, and no entry of the lists has become idle."""
    listed = Counter(
        (recorded, entry.pattern)
        for recorded in _RECORDED
        for entry in (*DIFFERENT, *NOT_COVERED)
        if entry.covers(recorded)
    )
    twice = [name for name, count in Counter(name for name, _ in listed).items() if count > 1]
    idle = {entry.pattern for entry in (*DIFFERENT, *NOT_COVERED)} - {pattern for _, pattern in listed}
    assert (twice, idle, len(_RECORDED)) == ([], set(), 775)


def test_what_is_covered_was_recorded() -> None:
    """The recording is trimmed of what is not covered, and of nothing else."""
    not_covered = {name for name in _RECORDED if any(entry.covers(name) for entry in NOT_COVERED)}
    trimmed = {name for name, recorded in _RECORDED.items() if recorded.request is None}
    assert trimmed == not_covered


class _Replay:
    """Asks the store what CouchDB was asked, and keeps what does not agree."""

    def __init__(self, served: ServedStore) -> None:
        self._served = served
        self._generated = {name: generate() for name, generate in GENERATORS.items()}
        self._cookie = b""
        self.alike: list[str] = []
        self.different: list[str] = []
        self.wrong: list[str] = []

    async def replay(self, recorded: Recorded) -> None:
        answer = await self._ask(recorded)
        expected = expectation(recorded)
        difference = next((entry for entry in DIFFERENT if entry.covers(recorded.id)), None)
        if difference is None:
            self._note(recorded, answer == expected, self.alike, expected, answer)
        else:
            agreed = self._agreed(recorded, difference)
            self._note(recorded, answer == agreed, self.different, agreed, answer)
            if answer == expected:
                self.wrong.append(f"{recorded.id}: is listed as different, but is not")

    async def _ask(self, recorded: Recorded) -> Expectation | None:
        assert recorded.request is not None
        if recorded.id == "rev.field.put":
            document = (await self._served.ask("GET", "/rec/types")).json
            self._generated[recorded.id] = json.dumps(document | {"download_token": "new"}).encode()
        raw = _COOKIE.sub(self._cookie, raw_request(recorded, self._generated))
        response = await self._served.send(raw, recorded.request.get("half_close_after_body", False))
        if response is None:
            return None
        if not response.is_whole:
            self.wrong.append(f"{recorded.id}: the body is not what its framing says")
        self._cookie = response.headers.get("set-cookie", "").partition(";")[0].encode() or self._cookie
        return observation(response)

    def _agreed(self, recorded: Recorded, difference: Difference) -> Expectation | None:
        if not difference.is_answered:
            return None
        like = _RECORDED[difference.like or recorded.id]
        return difference.apply(expectation(like))

    def _note(
        self,
        recorded: Recorded,
        agrees: bool,
        agreeing: list[str],
        expected: Expectation | None,
        answer: Expectation | None,
    ) -> None:
        if agrees:
            agreeing.append(recorded.id)
        else:
            self.wrong.append(f"{recorded.id} ({recorded.what})\n  expected {expected}\n  answered {answer}")


@in_reactor
async def test_replay(served: ServedStore) -> None:
    replay = _Replay(served)
    for recorded in _RECORDED.values():
        if recorded.request is not None:
            await replay.replay(recorded)
    assert replay.wrong == [], "\n".join(replay.wrong)
    # The figures that the documentation names.
    assert (len(replay.alike), len(replay.different), len(_RECORDED)) == (539, 124, 775)
    assert served.files("incoming") == []
