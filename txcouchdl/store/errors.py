"""What goes wrong in a store that is not the client's doing."""


class StoreError(Exception):
    """A store that cannot be opened. The message is one line, fit for the operator."""


class NotAStore(StoreError):
    """The path is not a directory that a store could live in."""


class StoreLocked(StoreError):
    """Another process has this store, or its database, open for itself."""


class DiskFull(StoreError):
    """The disk has no room for what SQLite needs to read the database: some 40 KiB."""


class DamagedStore(StoreError):
    """``store.sqlite3`` is not a database any more, or never was one, or a part of the store is missing."""


class ForeignStore(StoreError):
    """``store.sqlite3`` is some other program's database."""


class NewerStore(StoreError):
    """The store was written by a later version of this program."""


class Damage(Exception):
    """
    What is stored is not what was stored. The message is for the log.

    :cvar reason: a sentence, fit for the client.
    """

    reason: str


class DamagedBody(Damage):
    """
    A stored body: its file is missing, has another length or other bytes, or does not decompress.

    What has been sent of it must not look complete.
    """

    reason = "The stored bytes of this attachment are damaged."


class DamagedRecord(Damage):
    """What SQLite returns is not a revision or an attachment as it was written."""

    reason = "This document is damaged in the database of the store."


class DamagedDatabase(Damage):
    """SQLite finds pages that are not in order."""

    reason = "The database of the store is damaged."


class LostDatabase(Damage):
    """
    The files that SQLite has open were removed or replaced: what is written to them would be gone with the process.
    """

    reason = "The database of the store has been removed; nothing can be written."
