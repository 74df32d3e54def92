"""Header fields: how long a name may be."""

from typing import Final

#: Bytes of a field's name, in requests and in answers. The longest registered name has 40. Twisted keeps the first
#: 10,000 names that a process sees, whoever sent them, until the process ends.
LONGEST_NAME: Final = 256
