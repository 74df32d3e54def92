"""
Attachment bodies, in files named by the SHA-256 of their bytes.

    incoming/<random>         being written
    blobs/<2 digits>/<name>   complete, durable, never changed

A body becomes durable in this order: its bytes are written and fsynced under incoming/, the file is renamed
into blobs/, the directories are fsynced, and only then may a row in the database name it. So whatever a crash
leaves behind is a file that no row names: incoming/ is emptied at start, and :meth:`Blobs.sweep` removes the
rest.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from txcouchdl.couch.documents import Digest
from txcouchdl.store import bodies
from txcouchdl.store.errors import DamagedBody
from txcouchdl.store.private_files import make_directory, open_binary

#: A body is kept in memory up to this many bytes, and in a file from there on.
IN_MEMORY = 64 * 1024


class Spool:
    """
    Bytes on their way in, counted and hashed as they come; never more than ``IN_MEMORY`` of them in memory.

    Not thread-safe, but may be handed from one thread to another. Whoever has it must discard it in the end,
    also after it was adopted.
    """

    def __init__(self, directory: Path) -> None:
        self.length = 0
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._path = directory / uuid4().hex
        self._is_on_disk = False
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    @property
    def digest(self) -> Digest:
        return Digest(self._md5.digest())

    @property
    def name(self) -> str:
        """The SHA-256 in hexadecimal."""
        return self._sha256.hexdigest()

    def write(self, data: bytes) -> None:
        """
        :raises OSError: if the disk does not take it. The spool is of no more use then.
        """
        self.length += len(data)
        self._md5.update(data)
        self._sha256.update(data)
        if self._file is None and self.length <= IN_MEMORY:
            self._buffer += data
        else:
            self._opened().write(data)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = open_binary(self._path, "x+b")
            self._is_on_disk = True
            self._file.write(self._buffer)
            self._buffer.clear()
        return self._file

    def pieces(self) -> Iterator[bytes]:
        """All bytes from the start, in bounded pieces. Nothing may be written after."""
        if self._file is None:
            if self._buffer:
                yield bytes(self._buffer)
            return
        self._file.flush()
        self._file.seek(0)
        while piece := self._file.read(bodies.PIECE):
            yield piece

    def settle(self) -> None:
        """
        Make the bytes durable under their temporary name. Nothing may be written after.

        :raises OSError: if the disk does not take them.
        """
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())

    def move(self, target: Path) -> None:
        """Give the settled file its final name, in place of whatever has it."""
        self._path.replace(target)
        self._is_on_disk = False

    def discard(self) -> None:
        """Let go of the bytes and, unless it was moved, of the file. May be called twice."""
        self._buffer.clear()
        if self._is_on_disk:
            self._path.unlink(missing_ok=True)
            self._is_on_disk = False
        if self._file is not None:
            # On a full disk the last bytes cannot be flushed; nobody wants them, and the file is closed all
            # the same.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


class Blobs:
    """The bodies of one store, in its directory. Only one process may use it at a time."""

    def __init__(self, directory: Path) -> None:
        self._incoming = directory / "incoming"
        self._blobs = directory / "blobs"

    def prepare(self) -> None:
        """Make the directories, and remove what an earlier life left in incoming/."""
        make_directory(self._incoming)
        make_directory(self._blobs)
        for leftover in self._incoming.iterdir():
            leftover.unlink()
        _sync_directory(self._blobs.parent)

    def spool(self) -> Spool:
        """An empty spool on the file system of the blobs, so that adopting it copies nothing."""
        return Spool(self._incoming)

    def spool_of(self, data: bytes) -> Spool:
        """
        A spool that holds these bytes.

        :raises OSError: if the disk does not take them.
        """
        spool = self.spool()
        try:
            spool.write(data)
        except BaseException:
            spool.discard()
            raise
        return spool

    def adopt(self, spool: Spool) -> None:
        """
        Keep a settled spool's bytes under their name; durable on return.

        An equal body that is there already is replaced, which also mends it if it was damaged.
        """
        target = self._path(spool.name)
        if not target.parent.is_dir():
            make_directory(target.parent)
            _sync_directory(self._blobs)
        spool.move(target)
        _sync_directory(target.parent)

    def open(self, name: str, stored_length: int) -> BinaryIO:
        """
        Open a body for reading; it stays readable when the blob is swept meanwhile.

        :raises DamagedBody: if it is missing or has another length.
        """
        try:
            # Unbuffered: it is read in large pieces only.
            file = self._path(name).open("rb", buffering=0)
        except FileNotFoundError:
            raise DamagedBody(f"blob {name} is missing") from None
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != stored_length:
            file.close()
            raise DamagedBody(f"blob {name} has {found.st_size} bytes, not {stored_length}")
        return file

    def remove(self, name: str) -> None:
        """Remove a blob that nothing refers to, if it is there."""
        self._path(name).unlink(missing_ok=True)

    def sweep(self, referenced: set[str]) -> None:
        """Remove every blob that is not among these names."""
        for path in self._blobs.glob("??/*"):
            if path.name not in referenced:
                path.unlink()

    def _path(self, name: str) -> Path:
        return self._blobs / name[:2] / name


def _sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
