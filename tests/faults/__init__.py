"""
A proxy between the gateway and a node that cuts, stalls, lies and floods, as a schedule tells it.

It stands on the node's port, in memory or on loopback, and the node on another one::

    proxy = FaultyProxy(network.endpoint(5985), Schedule.of(Cut(1000, Hangup.RST), NoFault(), Stall(0)), network)
    network.listen(5984, proxy)
    network.listen(5985, node)
"""

from tests.faults.connections import Hangup
from tests.faults.exchange import Start
from tests.faults.floods import EndlessBody, EndlessChunkSize, EndlessHead, EndlessInterim, EndlessPage, Surplus
from tests.faults.kinds import (
    AnotherDocument,
    AnswerStatus,
    Corrupt,
    Cut,
    Delay,
    Duplicate,
    DyingWords,
    Fault,
    NoFault,
    Refuse,
    Slow,
    Stall,
    Truncate,
    WrongRange,
)
from tests.faults.proxy import FaultyProxy
from tests.faults.schedule import Applied, Schedule

__all__ = [
    "AnotherDocument",
    "AnswerStatus",
    "Applied",
    "Corrupt",
    "Cut",
    "Delay",
    "Duplicate",
    "DyingWords",
    "EndlessBody",
    "EndlessChunkSize",
    "EndlessHead",
    "EndlessInterim",
    "EndlessPage",
    "Fault",
    "FaultyProxy",
    "Hangup",
    "NoFault",
    "Refuse",
    "Schedule",
    "Slow",
    "Stall",
    "Start",
    "Surplus",
    "Truncate",
    "WrongRange",
]
