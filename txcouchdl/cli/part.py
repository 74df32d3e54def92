"""
A file on its way: ``FILE.part``, and beside it ``FILE.part.state``, which says what of it can be relied on.

Whatever ends this process or this machine, the state claims nothing that is not on disk:

- bytes are fsynced before a state claims them, and a new state takes the place of the old one in one step;
- before bytes of another version are written, a state is durable that claims none;
- a state names the inode of its file, so that it is not taken for another file's;
- the file gets its name last, complete and verified; then the state goes, and then the ``.part``: whoever takes that
  name next has a state of his own.

One process at a time, by a lock on the ``.part`` itself. What is not ours is left alone. What nobody could go on with
does not stay.
"""

import contextlib
import errno
import fcntl
import os
import stat
from typing import Final

from attrs import evolve

from txcouchdl.cli.names import NEW_STATE, PART, STATE
from txcouchdl.cli.outcomes import LocalTrouble, local_trouble
from txcouchdl.cli.places import Place
from txcouchdl.cli.record import LONGEST, Record, read_record
from txcouchdl.cli.spans import Spans

_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
#: How often the name is looked up again, if another process has just taken it away.
_MOST_LOOKS: Final = 100
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Part:
    """
    One of these, opened and locked until it is closed. Methods raise :class:`OSError` where nothing else is said.

    :param place: of the file that it is to become.
    :raises LocalTrouble: if it cannot be opened, is not ours, or is in use.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._name = f"{place.name}{PART}"
        self._state = f"{place.name}{STATE}"
        self.shown = f"{place.shown}{PART}"
        # Until something is begun anew, what is there is not ours to judge.
        self._is_worth_keeping = True
        self._is_gone = False
        try:
            self._file = self._locked()
        except BlockingIOError:
            raise LocalTrouble(f"{self.shown}: another download is at work on it") from None
        except OSError as error:
            raise local_trouble(self.shown, error) from None

    def _locked(self) -> int:
        for _ in range(_MOST_LOOKS):
            file = os.open(self._name, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666, dir_fd=self._place.directory)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_to_be_used(file):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise BlockingIOError

    def _is_to_be_used(self, file: int) -> bool:
        """Whether it is what has the name now, and no finished file has that name too."""
        found = os.fstat(file)
        named = _stat(self._place, self._name)
        if named is None or (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
            return False
        if not stat.S_ISREG(found.st_mode):
            raise LocalTrouble(f"{self.shown}: is no file")
        if found.st_nlink > 1:
            finished = _stat(self._place, self._place.name)
            if finished is None or not os.path.samestat(finished, found):
                raise LocalTrouble(f"{self.shown}: is in the way, and has another name; remove it")
            # Between its two names somebody was interrupted.
            os.unlink(self._name, dir_fd=self._place.directory)
            return False
        if found.st_size and _stat(self._place, self._state) is None:
            raise LocalTrouble(f"{self.shown}: is in the way, and not of this program's making; remove it")
        return True

    @property
    def inode(self) -> int:
        return os.fstat(self._file).st_ino

    def recall(self) -> Record | None:
        """What is known of its bytes; ``None`` if nothing is that could be relied on."""
        record = self._recorded()
        if record is None or os.fstat(self._file).st_size != (record.length or 0):
            return None
        return record

    def _recorded(self) -> Record | None:
        """What the state says, if it is of this file."""
        if (named := _stat(self._place, self._state)) is None or not stat.S_ISREG(named.st_mode):
            return None
        file = os.open(self._state, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=self._place.directory)
        with open(file, "rb") as stream:
            record = read_record(stream.read(LONGEST + 1))
        return record if record is not None and record.inode == self.inode else None

    def begin(self, record: Record) -> None:
        """
        Forget all bytes, and make room for those of a version.

        :raises LocalTrouble: if there is not enough.
        """
        self._is_worth_keeping = record.etag is not None
        self._write_state(evolve(record, done=Spans()))
        self._place.settle()
        os.ftruncate(self._file, 0)
        if record.length is not None:
            self.require_room(record.length)
            os.ftruncate(self._file, record.length)

    def require_room(self, length: int) -> None:
        """:raises LocalTrouble: if so many bytes find no room."""
        found = os.fstatvfs(self._file)
        room = found.f_bavail * found.f_frsize
        if length > room:
            raise LocalTrouble(f"{self._place.shown}: has {length} bytes, and there is room for {room}")

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._file, view, offset)
            view, offset = view[count:], offset + count

    def save(self, record: Record) -> None:
        """Make what a record claims durable, and then the record. All of it has been written before."""
        os.fdatasync(self._file)
        self._write_state(record)

    def _write_state(self, record: Record) -> None:
        new = f"{self._place.name}{NEW_STATE}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS
        with open(os.open(new, flags, 0o666, dir_fd=self._place.directory), "wb") as stream:
            stream.write(record.write())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, self._state, src_dir_fd=self._place.directory, dst_dir_fd=self._place.directory)

    def reader(self) -> int:
        """A descriptor of the file, for who reads it from its beginning and closes it then."""
        return os.open(self._name, os.O_RDONLY | _FLAGS, dir_fd=self._place.directory)

    def finish(self, replaces: bool) -> None:
        """
        Give the file its name, durably.

        :param replaces: whether it may take the place of another.
        :raises LocalTrouble: if there is one, and it may not.
        """
        os.fsync(self._file)
        if replaces or not self._link():
            self._rename()
        self._is_gone = True
        self._place.settle()

    def _link(self) -> bool:
        """
        Unlike rename(2), link(2) never takes the place of something.

        :return: whether there are links here.
        """
        here = self._place.directory
        try:
            os.link(self._name, self._place.name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
        except FileExistsError:
            raise self._has_come_into_being() from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Between this look and the renaming is a moment in which what comes into being is replaced.
            if is_there(self._place):
                raise self._has_come_into_being() from None
            return False
        self._remove(self._state)
        self._remove(self._name)
        return True

    def _has_come_into_being(self) -> LocalTrouble:
        self._is_worth_keeping = True
        return LocalTrouble(f"{self._place.shown}: has come into being meanwhile; {self.shown} is kept")

    def _rename(self) -> None:
        here = self._place.directory
        os.replace(self._name, self._place.name, src_dir_fd=here, dst_dir_fd=here)
        # Another process may have taken the old name already: its state is not ours.
        if self._recorded() is not None:
            self._remove(self._state)

    def discard(self) -> None:
        """Remove it, and what is known of it."""
        self._is_gone = True
        self._remove(self._state)
        self._remove(self._name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._place.directory)

    def close(self) -> None:
        """Let go of it, and of the lock; of what has no byte, or nobody could go on with, nothing stays."""
        try:
            if not self._is_gone and (os.fstat(self._file).st_size == 0 or not self._is_worth_keeping):
                self.discard()
        finally:
            os.close(self._file)


def is_there(place: Place) -> bool:
    """Whether something has the name already."""
    return _stat(place, place.name) is not None


def require_file(place: Place) -> None:
    """:raises LocalTrouble: if something has the name that is no file, and so is not to be replaced by one."""
    found = _stat(place, place.name)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise LocalTrouble(f"{place.shown}: is there already, and is no file")


def tidy(place: Place) -> None:
    """Remove what is left over where a file got its name, and the process that gave it ended right behind that."""
    file, part = _stat(place, place.name), _stat(place, f"{place.name}{PART}")
    if part is not None and (file is None or file.st_ino != part.st_ino):
        return
    for name in (f"{place.name}{PART}", f"{place.name}{STATE}"):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=place.directory)


def _stat(place: Place, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
