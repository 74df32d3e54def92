"""``python -m txcouchdl.workers NUMBER``: a worker. Started by its crew alone, which tells it everything else."""

import signal

#: The supervisor heeds them for all workers, also if a terminal or systemd sends them to every process.
_FOR_THE_CREW = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    """Work until told to end."""
    # Before the imports, which take a second.
    for each in _FOR_THE_CREW:
        signal.signal(each, signal.SIG_IGN)
    from twisted.internet import reactor

    from txcouchdl.workers.worker import work

    work(reactor)


if __name__ == "__main__":
    main()
