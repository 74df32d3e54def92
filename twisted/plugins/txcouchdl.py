"""Tells twistd of ``twistd couchdl``. Imports nothing of ours, so that twistd's listing stays quick."""

from twisted.application.service import ServiceMaker

couchdl = ServiceMaker(
    "txcouchdl",
    "txcouchdl.service",
    "A resumable download gateway for CouchDB attachments.",
    "couchdl",
)
