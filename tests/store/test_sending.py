"""The producer, against consumers that pause, stop and fail it at every moment."""

from collections.abc import Iterator

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txcouchdl.store.errors import DamagedBody
from txcouchdl.store.sending import PieceProducer


@define
class _Source:
    """So many pieces, and then perhaps a failure."""

    count: int
    fails: bool = False

    def pieces(self) -> Iterator[bytes]:
        for number in range(self.count):
            yield b"%d" % number
        if self.fails:
            raise DamagedBody("cut")


@implementer(IConsumer)
@define
class _Consumer:
    """
    :ivar after: what to do within the nth write.
    """

    source: _Source
    written: list[bytes] = field(factory=list)
    after: dict[int, str] = field(factory=dict)
    producer: PieceProducer = field(init=False)
    done: Deferred[None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.producer = PieceProducer(self.source.pieces(), self)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.written.append(data)
        for action in self.after.get(len(self.written), "").split():
            getattr(self.producer, action)()


def test_is_a_push_producer() -> None:
    assert verifyObject(IPushProducer, _Consumer(_Source(0)).producer)


def test_writes_all() -> None:
    consumer = _Consumer(_Source(3))
    done = consumer.producer.run()
    assert (consumer.written, done.called) == ([b"0", b"1", b"2"], True)


def test_writes_nothing_while_paused() -> None:
    consumer = _Consumer(_Source(4), after={1: "pauseProducing", 3: "pauseProducing"})
    done = consumer.producer.run()
    assert consumer.written == [b"0"]
    consumer.producer.resumeProducing()
    assert consumer.written == [b"0", b"1", b"2"]
    assert not done.called
    consumer.producer.resumeProducing()
    assert (consumer.written[-1], done.called) == (b"3", True)


def test_a_pause_taken_back_within_a_write() -> None:
    """However often: the stack does not grow."""
    consumer = _Consumer(_Source(5000), after=dict.fromkeys(range(5000), "pauseProducing resumeProducing"))
    done = consumer.producer.run()
    assert (len(consumer.written), done.called) == (5000, True)


@pytest.mark.parametrize("action", ["stopProducing", "stopProducing stopProducing", "stopProducing resumeProducing"])
def test_stopped_within_a_write(action: str) -> None:
    consumer = _Consumer(_Source(9), after={2: action})
    done = consumer.producer.run()
    assert (consumer.written, done.called) == ([b"0", b"1"], False)
    consumer.producer.resumeProducing()
    assert len(consumer.written) == 2


def test_stopped_after_the_end() -> None:
    consumer = _Consumer(_Source(1))
    done = consumer.producer.run()
    consumer.producer.stopProducing()
    assert done.called


def test_cancelled() -> None:
    consumer = _Consumer(_Source(9), after={2: "pauseProducing"})
    done = consumer.producer.run()
    failures: list[object] = []
    done.addErrback(lambda failure: failures.append(failure.check(CancelledError)))
    done.cancel()
    assert failures == [CancelledError]
    consumer.producer.resumeProducing()
    assert len(consumer.written) == 2


def test_fails_as_its_source_does() -> None:
    consumer = _Consumer(_Source(2, fails=True))
    failures: list[object] = []
    consumer.producer.run().addErrback(lambda failure: failures.append(failure.check(DamagedBody)))
    assert (failures, consumer.written) == ([DamagedBody], [b"0", b"1"])
