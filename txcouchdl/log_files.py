"""The files of twistd's log, opened again once another program has moved them away."""

import os
from collections.abc import Iterator
from typing import Final

from twisted.logger import Logger, globalLogPublisher
from twisted.python.logfile import BaseLogFile

_MODE: Final = 0o666

_log = Logger()


def reopen_log_files() -> None:
    """Open each file of the log by its name. If that fails, log an error and go on in the former file."""
    for file in list(_log_files()):
        try:
            # Twisted closes the former file first: a name that cannot be opened would end the log.
            os.close(os.open(file.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, _MODE))
            file.reopen()
        except OSError as error:
            _log.error("the log {path!r} cannot be opened again: {why}", path=file.path, why=error.strerror)


def _log_files() -> Iterator[BaseLogFile]:
    """What twistd writes its log to, if these are files: Twisted has no other way to them than its observers."""
    for observer in globalLogPublisher._observers:
        file = getattr(observer, "_outFile", None)
        if isinstance(file, BaseLogFile):
            yield file
