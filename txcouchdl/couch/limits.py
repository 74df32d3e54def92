"""What we wait for from CouchDB, how much of it we use at once, and which way its bytes go."""

from attrs import frozen


@frozen
class UpstreamLimits:
    """
    :ivar stall_timeout: seconds without a byte after which an answer or a body counts as lost.
    :ivar hedge_after: seconds without a byte after which a second node is asked as well; 0 for never. From the stall
        timeout on that is never, too.
    :ivar give_up: seconds without one new byte after which a download is not healed any more, and after which a
        request that resumes one waits no more for CouchDB. More than the stall timeout.
    :ivar park_after: seconds that a client may take nothing before its connection to CouchDB is given back.
    :ivar give_way_after: seconds of these after which it is given to somebody who waits for one.
    :ivar short: bytes that are waited for and sent in one piece, if they are stored as they are wanted: a stream takes
        longer to prepare than they take to come. Up to some 200 KiB that is cheaper by a quarter (measured), but a
        client that reads nothing keeps so much of our memory.
    :ivar worth_bypassing: bytes of a body for which it pays to let them go past this process: from some 300 KiB on
        nothing is cheaper (measured).
    :ivar most_skipped: bytes that an attachment may have for ranges of it to be served where nodes ignore ranges: each
        range is read from the first byte on. It is also the most that a paused client may make us read again.
    :ivar max_upstream: exchanges with one node at the same time.
    :ivar queue_timeout: seconds to wait for one of these, or for memory for a document, before a request is refused.
    :ivar max_inflations: passes over compressed attachments that inflate bytes for nobody, at the same time: see
        :mod:`~txcouchdl.couch.inflation_slots`.
    :ivar max_inflations_per_address: those for one client's address.
    :ivar max_document: bytes of the JSON of a document, stubs included. CouchDB's own limit is 8 MB without them.
    :ivar document_memory: bytes of documents that are read at the same time. At least max_document.
    """

    stall_timeout: float = 30.0
    hedge_after: float = 3.0
    give_up: float = 60.0
    park_after: float = 10.0
    give_way_after: float = 0.25
    short: int = 128 * 2**10
    worth_bypassing: int = 256 * 2**10
    most_skipped: int = 128 * 2**20
    max_upstream: int = 256
    queue_timeout: float = 15.0
    max_inflations: int = 16
    max_inflations_per_address: int = 4
    max_document: int = 16 * 2**20
    document_memory: int = 64 * 2**20
