"""
Responds with one pinned attachment: plans the response, and plans it again if nodes turn out to ignore ranges.
"""

from functools import partial
from typing import Final

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from txcouchdl.couch.cluster import Cluster
from txcouchdl.couch.documents import AttachmentStub
from txcouchdl.couch.errors import RangesIgnored, RevisionGone
from txcouchdl.couch.inflation import Inflation
from txcouchdl.couch.learned import LearnedIdentities
from txcouchdl.couch.route import Route
from txcouchdl.couch.source import AttachmentSource, PinnedAttachment
from txcouchdl.gateway.delivery import answer, deliver
from txcouchdl.gateway.description import Presentation, entity_tag
from txcouchdl.gateway.errors import Forbidden, NoSuchRevision
from txcouchdl.gateway.links import Phase
from txcouchdl.gateway.peers import TrustedProxies
from txcouchdl.gateway.plan import DeliveryPlan, RequestFacts, plan_delivery
from txcouchdl.gateway.request import GatewayRequest
from txcouchdl.gateway.resume_wait import ResumeWait
from txcouchdl.gateway.resuming import goes_on
from txcouchdl.protocol.multipart import new_boundary

#: Bytes that are inflated to find out a length before a client gets impatient. A few at rest may be any number.
_QUICKLY_INFLATED: Final = 128 * 2**20


@frozen
class Permission:
    """
    What a request may have: a pinned attachment, by what opens it.

    :ivar route: the way on which the document was read.
    """

    route: Route
    pinned: PinnedAttachment
    phase: Phase


@frozen
class Responder:
    """
    :ivar presentation: how browsers are to show attachments.
    """

    _cluster: Cluster
    _learned: LearnedIdentities
    _inflation: Inflation
    _presentation: Presentation
    _proxies: TrustedProxies
    _clock: IReactorTime

    async def respond(
        self, request: GatewayRequest, facts: RequestFacts, permission: Permission, wait: ResumeWait | None
    ) -> None:
        """
        Respond as the attachment and the facts demand.

        :param wait: of a request that may resume a download.
        :raises AttachmentChanged: if it did, before anything was told to the client; so RevisionGone.
        """
        ranges = self._cluster.ranges
        # From time to time nodes that ignore ranges are asked for one all the same.
        are_ignored = ranges.is_lost if facts.range is None else ranges.is_surely_lost
        try:
            await self._respond(request, facts, permission, wait, are_ignored)
        except RangesIgnored:
            # This is known now and changes the response, of which nothing has been sent.
            await self._respond(request, facts, permission, wait, True)

    async def _respond(
        self,
        request: GatewayRequest,
        facts: RequestFacts,
        permission: Permission,
        wait: ResumeWait | None,
        are_ranges_ignored: bool,
    ) -> None:
        """
        :param are_ranges_ignored: whether nodes ignore ranges, as far as is known.
        :raises RangesIgnored: if they do, and that was not known.
        """
        pinned, most_skipped = permission.pinned, self._cluster.limits.most_skipped if are_ranges_ignored else None
        plan = self._plan(facts, pinned.stub, pinned.rev, most_skipped)
        if not (plan.sends_attachment or plan.wants_length):
            _check_phase(permission, plan, facts)
            answer(plan, request)
            return
        source = self._source(permission, facts, request.client.host, are_ranges_ignored)
        try:
            if plan.wants_length:
                stub = await source.measured(None if facts.needs_length else _QUICKLY_INFLATED)
                plan = self._plan(facts, stub, pinned.rev, most_skipped)
            _check_phase(permission, plan, facts)
            if wait is not None:
                wait.planned(plan)
            await deliver(plan, request, source, None if wait is None else wait.end)
        except RevisionGone:
            if facts.rev is not None:
                raise NoSuchRevision from None
            raise

    def _plan(self, facts: RequestFacts, stub: AttachmentStub, rev: str, most_skipped: int | None) -> DeliveryPlan:
        return plan_delivery(facts, stub, rev, new_boundary, self._presentation, most_skipped)

    def _source(self, permission: Permission, facts: RequestFacts, client: str, reads_whole: bool) -> AttachmentSource:
        return AttachmentSource(
            permission.route,
            permission.pinned,
            self._learned,
            self._inflation,
            self._cluster.limits,
            self._clock,
            follows=facts.rev is None,
            address=partial(self._proxies.limited_address, client),
            reads_whole=reads_whole,
        )


def _check_phase(permission: Permission, plan: DeliveryPlan, facts: RequestFacts) -> None:
    """:raises Forbidden: if a link is over but for what has begun, and this has not."""
    is_over = permission.phase is Phase.RESUMING
    if is_over and not goes_on(plan, facts, entity_tag(permission.pinned.stub)):
        raise Forbidden
