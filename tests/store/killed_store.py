"""Run as a process of its own by test_kill.py: serves a store, and says on its output where."""

import sys
from pathlib import Path

from twisted.internet import reactor

from tests.store.serving import ServedStore

if __name__ == "__main__":
    served = ServedStore.start(Path(sys.argv[1]), reactor)
    sys.stdout.write(f"{served.port}\n")
    sys.stdout.flush()
    reactor.run()
