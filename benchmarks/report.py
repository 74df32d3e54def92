"""What was measured, as one table: on the terminal, in JSON and for the documentation."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from attrs import asdict, frozen
from rich.table import Table

from benchmarks.contestants import CONTESTANTS, OURS
from benchmarks.goals import Outcome, outcomes
from benchmarks.rounds import Results
from benchmarks.works import Work

#: Between these two lines of a document stands what is generated.
BEGIN = ".. What follows is written by python -m benchmarks --rst."
END = ".. What is before this line is written by python -m benchmarks --rst."
_READING = "Medians; in brackets, how many times txcouchdl's figure it is"


@frozen
class Row:
    """
    A line of the table.

    :ivar work: what was done; empty where the line before says it.
    :ivar cells: for each contestant its median, and how many times this gateway's it is.
    """

    work: str
    figure: str
    cells: Sequence[str]


def measured_contestants(results: Results) -> list[str]:
    """The columns."""
    return [name for name in CONTESTANTS if any(name in measured for measured in results.rounds.values())]


def rows(results: Results, works: Sequence[Work]) -> Iterator[Row]:
    """The lines of the table."""
    for work in works:
        if work.name not in results.rounds:
            continue
        title = work.title
        for figure in work.shown:
            cells = [_cell(results, work.name, name, figure.name) for name in measured_contestants(results)]
            if any(cells):
                yield Row(title, figure.title, cells)
                title = ""


def _cell(results: Results, work: str, contestant: str, figure: str) -> str:
    value = results.median(work, contestant).get(figure)
    if value is None:
        return ""
    ratio = results.ratios(work, contestant).get(figure)
    return rounded(value) if contestant == OURS or ratio is None else f"{rounded(value)} ({rounded(ratio)}x)"


def rounded(value: float) -> str:
    """Three digits that count, and all in front of the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def terminal_table(results: Results, works: Sequence[Work]) -> Table:
    """The table for a terminal."""
    table = Table(title=_READING, title_justify="left")
    table.add_column("work")
    table.add_column("figure")
    for name in measured_contestants(results):
        table.add_column(name, justify="right")
    for row in rows(results, works):
        if row.work:
            table.add_section()
        table.add_row(row.work, row.figure, *row.cells)
    return table


def goal_lines(results: Results) -> Iterator[str]:
    """A line for each goal."""
    for outcome in outcomes(results):
        yield f"{_verdict(outcome):12} {outcome.title}{_compared(outcome)}"


def _verdict(outcome: Outcome) -> str:
    if outcome.is_met is None:
        return "not measured"
    if outcome.is_met:
        return "met"
    return "not reached" if outcome.is_stretch else "NOT MET"


def _compared(outcome: Outcome) -> str:
    stretch = " (hoped for)" if outcome.is_stretch else ""
    if outcome.value is None or outcome.bound is None:
        return stretch
    return f"{stretch}: {rounded(outcome.value)}, bound {rounded(outcome.bound)}"


def as_json(results: Results, works: Sequence[Work], machine: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """Everything: each round, the medians, the ratios to this gateway, and the goals."""
    return {
        "machine": dict(machine),
        "rounds": rounds,
        "md5_cpu_s_per_gb": results.md5_seconds_per_gb,
        "skipped": results.skipped,
        "failures": results.failures,
        "works": [
            {
                "name": work.name,
                "title": work.title,
                "contestants": {
                    name: {
                        "rounds": measured,
                        "median": results.median(work.name, name),
                        "ratio": results.ratios(work.name, name),
                    }
                    for name, measured in results.rounds[work.name].items()
                },
            }
            for work in works
            if work.name in results.rounds
        ],
        "goals": [asdict(outcome) | {"is_met": outcome.is_met} for outcome in outcomes(results)],
    }


def as_rst(results: Results, works: Sequence[Work], machine: Mapping[str, str], rounds: int) -> str:
    """The table for the documentation, with what it was measured on and what became of the goals."""
    columns = measured_contestants(results)
    facts = "; ".join(f"{name} {fact}" for name, fact in machine.items())
    reading = f"{_READING}. Rounds: {rounds}; with stalled readers: 1. {facts}."
    lines = [
        *wrap(reading, 120, break_on_hyphens=False),
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        *_rst_row(["Work", "Figure", *columns]),
    ]
    for row in rows(results, works):
        lines += _rst_row([row.work, row.figure, *row.cells])
    lines += ["", *(f"* {name}: {CONTESTANTS[name].remark}" for name in columns if CONTESTANTS[name].remark)]
    lines += ["", "The goals that were set for this, and what this run says of them::", ""]
    lines += [f"    {line}" for line in goal_lines(results)]
    return "\n".join(lines) + "\n"


def _rst_row(cells: Sequence[str]) -> Iterator[str]:
    for index, cell in enumerate(cells):
        yield f"   {'  ' if index else '* '}- {cell}".rstrip()


def replace_generated(document: str, generated: str) -> str:
    """
    A document with what is generated put between its two lines.

    :raise ValueError: it does not have them.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for the table: no {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{generated}\n{end}{after}"
