"""What each of several workers may take, so that all together take what one gateway may."""

import os

from attrs import evolve

from txcouchdl.settings import Settings


def worker_count(wanted: int) -> int:
    """
    How many processes are to answer.

    :param wanted: 0 for one on each core that we may use.
    """
    if wanted:
        return wanted
    # Not everywhere are there cores that one may not use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(settings: Settings, count: int) -> Settings:
    """
    The settings of one of so many workers. Connections, exchanges, inflations and the memory for documents are divided,
    rounded up; each worker has memory for one document at least. Every other limit holds for each connection, or is
    counted together.
    """
    clients, upstream = settings.clients, settings.upstream
    document_memory = max(_part(upstream.document_memory, count), upstream.max_document)
    return evolve(
        settings,
        clients=evolve(
            clients,
            max_connections=_part(clients.max_connections, count),
            # Where nobody says how many, it is a part of the worker's own.
            max_connections_per_address=_part(clients.max_connections_per_address, count),
        ),
        upstream=evolve(
            upstream,
            max_upstream=_part(upstream.max_upstream, count),
            max_inflations=_part(upstream.max_inflations, count),
            max_inflations_per_address=_part(upstream.max_inflations_per_address, count),
            document_memory=document_memory,
        ),
        workers=1,
    )


def _part(whole: int, count: int) -> int:
    return -(-whole // count)
