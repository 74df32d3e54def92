"""
Why a download did not happen, or did not end: the hierarchy, and the branch that CouchDB answers for.

The type says whose fault it is. What a client is told of each stands in one table, in ``gateway/errors.py``;
the messages here are for the log, and never leave the house.
"""


class DownloadError(Exception):
    """The root of everything that can stop a download: refusals, upstream failures, aborted transfers."""


class UpstreamFailure(DownloadError):
    """CouchDB, or the way to it, did not do its part."""


class UpstreamUnavailable(UpstreamFailure):
    """No answer: the connection was refused or lost, or the node answered with a 5xx."""


class NodeInMaintenance(UpstreamUnavailable):
    """The node answers ``/_up`` with maintenance mode: it works, and wants no requests of a load balancer."""


class NoNodeAvailable(UpstreamUnavailable):
    """
    All nodes have failed, and are being tried again.

    :ivar retry_after: seconds until it makes sense to ask again.
    """

    def __init__(self, message: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(UpstreamFailure):
    """
    All nodes that work have as many exchanges under way as they may have, for too long; or there is no memory for a
    document.

    :ivar retry_after: seconds until it makes sense to ask again.
    """

    def __init__(self, message: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamTimeout(UpstreamFailure):
    """No answer in time, or no byte of a body for too long."""


class UpstreamRefusedUs(UpstreamFailure):
    """CouchDB does not accept our credentials, or has locked them out: the operator's to mend."""


class BadUpstream(UpstreamFailure):
    """An answer that is not what was asked for: another status, range, entity-tag, length, body or document."""


class RangesIgnored(BadUpstream):
    """All nodes that can be asked send all bytes instead of a range, and the caller was not prepared for that."""


class UnprovenEnd(BadUpstream):
    """A body of the promised length whose tail could be an error text. A second read of the tail tells."""


class UnreadableDocument(BadUpstream):
    """A document that there is, and that we cannot read: too long, or nested too deep."""


class RevisionGone(UpstreamFailure):
    """The pinned revision is not there any more: compacted away, or its document deleted."""


class AttachmentChanged(UpstreamFailure):
    """The attachment that a transfer was pinned to has been replaced, or is gone."""


class CorruptAttachment(UpstreamFailure):
    """The stored bytes are not those of the digest, or not the gzip stream that the stub promised."""
