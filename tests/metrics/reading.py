"""What an exposition says, as Prometheus' own parser reads it."""

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from txcouchdl.metrics.exposition import Exposition
from txcouchdl.metrics.table import Table

#: Each sample by its name, and its label's value where it has one: ``requests_total 200``. Of a histogram's buckets and
#: of what runs here, all labels.
Numbers = dict[str, float]


def numbers(text: str) -> Numbers:
    """:param text: of an exposition; nothing is in it twice."""
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            name = " ".join([sample.name.removeprefix("couchdl_"), *sample.labels.values()])
            assert name not in found
            found[name] = sample.value
    return found


def counted(table: Table) -> Numbers:
    """What is told of a table; what runs here is left out, and so are zeros."""
    told = numbers(Exposition(table, Clock()).text().decode())
    return {name: number for name, number in told.items() if number and not name.startswith("build_info ")}


def change(before: Numbers, after: Numbers) -> Numbers:
    """What is another number now."""
    return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
