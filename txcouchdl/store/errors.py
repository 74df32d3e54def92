"""What goes wrong in a store that is not the client's doing."""


class StoreError(Exception):
    """A store that cannot be opened. The message is one line, fit for the operator."""


class NotAStore(StoreError):
    """The path is not a directory that a store could live in."""


class StoreLocked(StoreError):
    """Another process has this store open."""


class DamagedStore(StoreError):
    """``store.sqlite3`` is not a database any more, or never was one."""


class ForeignStore(StoreError):
    """``store.sqlite3`` is some other program's database."""


class NewerStore(StoreError):
    """The store was written by a later version of this program."""


class DamagedBody(Exception):
    """
    A stored body is not what was stored: its file is missing, has another length, or does not decompress.

    What has been sent of it must not look complete.
    """
