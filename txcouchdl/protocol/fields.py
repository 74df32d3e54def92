"""Heads of requests: how long they may be, and the names in them."""

from typing import Final

#: Bytes of a field's name, in requests and in answers. The longest registered name has 40. Twisted keeps the first
#: 10,000 names that a process sees, whoever sent them, until the process ends.
LONGEST_NAME: Final = 256

#: Bytes of a request's head, line ends not counted, and of a line in it, which may be one Range field of a thousand
#: ranges.
LONGEST_HEAD: Final = 32 * 2**10

#: Header fields of a request.
MOST_FIELDS: Final = 500
