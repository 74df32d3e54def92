"""txcouchdl: a resumable download gateway for CouchDB attachments."""

__version__ = "0.1.0"
