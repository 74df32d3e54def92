"""The command: ``python -m benchmarks``."""

import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import report
from benchmarks.contestants import CONTESTANTS
from benchmarks.machine import describe
from benchmarks.processes import Room, allow_descriptors
from benchmarks.rounds import Results, Step, run
from benchmarks.stalled import StalledWork
from benchmarks.upstreams import Upstream, couchdb, fast_upstream
from benchmarks.works import FULL, QUICK, Effort, Work, choose, load_works

#: Each stalled stream may have two sockets and a pipe in a gateway.
_DESCRIPTORS = 32768
#: Columns of the table where nobody looks at it.
_WIDTH = 200


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="WORK", help="Only works whose name begins so; repeatable.")
@click.option("--contestants", multiple=True, type=click.Choice(list(CONTESTANTS)), help="Only this one; repeatable.")
@click.option("--rounds", type=click.IntRange(1), help="How often everything is measured. Default: 5; --quick: 1")
@click.option("--quick", is_flag=True, help="Small sizes: whether it runs, not how fast.")
@click.option(
    "--couchdb", "couchdb_url", envvar="COUCHDB_URL", metavar="URL", help="A real CouchDB, by an admin's URL."
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
@click.option(
    "--rst", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Put the table into this document."
)
def main(
    only: Sequence[str],
    contestants: Sequence[str],
    rounds: int | None,
    quick: bool,
    couchdb_url: str | None,
    json_path: Path | None,
    rst: Path | None,
) -> None:
    """Measure this gateway beside others, in interleaved rounds."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _leave)
    effort = QUICK if quick else FULL
    try:
        works = choose(all_works(effort), only)
    except ValueError as unknown:
        raise click.BadParameter(str(unknown)) from None
    works = [work for work in works if work.upstream != "couchdb" or couchdb_url]
    rounds = rounds or (1 if quick else 5)
    results = _run(effort, works, contestants or list(CONTESTANTS), rounds, couchdb_url)
    _print(results, works, with_goals=not quick)
    machine = describe()
    if json_path is not None:
        json_path.write_text(json.dumps(report.as_json(results, works, machine, rounds), indent=1) + "\n", "utf-8")
    if rst is not None:
        generated = report.as_rst(results, works, machine, rounds)
        rst.write_text(report.replace_generated(rst.read_text("utf-8"), generated), "utf-8")
    if results.failures:
        sys.exit(1)


def _print(results: Results, works: Sequence[Work], with_goals: bool) -> None:
    output = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    output.print(report.terminal_table(results, works))
    for lines in (
        [
            f"{name}: {CONTESTANTS[name].remark}"
            for name in report.measured_contestants(results)
            if CONTESTANTS[name].remark
        ],
        [f"{name} was skipped: {why}" for name, why in results.skipped.items()],
        list(report.goal_lines(results)) if with_goals else [],
        [f"FAILED {failure}" for failure in results.failures],
    ):
        if lines:
            output.print("", *lines, sep="\n", markup=False, soft_wrap=True)


def all_works(effort: Effort) -> list[Work]:
    """Everything there is to measure."""
    stalled = (StalledWork(f"stalled-{count}", count, effort.stalled_seconds) for count in effort.stalled)
    return [*load_works(effort), *stalled]


def _leave(number: int, frame: FrameType | None) -> None:
    """End what was started; whoever is impatient, and says so twice, does not keep us from it."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _run(effort: Effort, works: Sequence[Work], names: Sequence[str], rounds: int, couchdb_url: str | None) -> Results:
    descriptors = allow_descriptors(_DESCRIPTORS)
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Room() as room, ExitStack() as upstreams, Progress(*columns, console=console, refresh_per_second=2) as shown:
        steps = sum(min(rounds, work.most_rounds) for work in works) * len(names)
        task = shown.add_task("starting", total=steps)
        kinds: dict[str, Upstream] = {}
        wanted = {work.upstream for work in works}
        if wanted & {"fast", "bounded"}:
            both = upstreams.enter_context(fast_upstream(room, effort.whole, descriptors))
            kinds.update((upstream.kind, upstream) for upstream in both)
        if "couchdb" in wanted and couchdb_url:
            kinds["couchdb"] = upstreams.enter_context(couchdb(couchdb_url, effort.couchdb_whole))

        def watch(step: Step) -> None:
            shown.update(task, advance=1, description=f"{step.work}: {step.contestant}, round {step.round}")

        return run(room, kinds, works, names, rounds, watch)


if __name__ == "__main__":
    main()
