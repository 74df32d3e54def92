"""``couchdl check``: whether downloads from a server can be resumed, and are right then."""

import json
from collections.abc import Iterable
from typing import Any, Final

import click

from txcouchdl.cli.asking import Means, dropped_on_error
from txcouchdl.cli.findings import Finding, findings_of, is_right
from txcouchdl.cli.locations import Location
from txcouchdl.cli.options import Address, carry_out, common_of, common_options
from txcouchdl.cli.outcomes import Exit
from txcouchdl.cli.output import standard_output
from txcouchdl.cli.probes import FIRST, MOST, Probe, Reply, known_from, probes_for
from txcouchdl.cli.versions import require_success

#: What a HEAD may be answered with by a server that does not know it.
_WITHOUT_HEAD: Final = frozenset({405, 501})


@click.command()
@click.argument("url", type=Address())
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common_options
def check(url: Location, as_json: bool, **others: Any) -> None:
    """
    Say whether downloads of a file can be resumed, and are right then; whatever server it is on.

    Some twenty requests are made, for a few bytes each. Give it the address of a file that has some: of an empty one
    nothing can be said.

    \b
    Exit status:
      0  resuming is right; there may be warnings
      1  it is not, or the server does not answer
      2  the command is wrong
      3  refused: wrong token, not there
    """

    async def work(means: Means) -> int:
        findings = await examine(means, url)
        with standard_output() as out:
            if as_json:
                out.write(f"{json_of(findings)}\n")
            else:
                out.writelines(f"{each.verdict.value}  {each.subject}: {each.meaning}\n" for each in findings)
        return Exit.DONE if is_right(findings) else Exit.INCOMPLETE

    carry_out(common_of(**others), work)


def json_of(findings: list[Finding]) -> str:
    """Whether it is right, and every finding."""
    told = [{"verdict": each.verdict.value, "subject": each.subject, "meaning": each.meaning} for each in findings]
    return json.dumps({"is_right": is_right(findings), "findings": told}, indent=1)


async def examine(means: Means, location: Location) -> list[Finding]:
    """
    Ask, and judge.

    :raises Trouble: if the server does not answer, or refuses.
    """
    replies = await _replies(means, location, FIRST)
    if replies["head"].head.status not in _WITHOUT_HEAD:
        require_success(replies["head"].head)
    known = known_from(replies)
    if known is not None:
        replies |= await _replies(means, location, probes_for(known))
    return findings_of(replies, known, location.opens_itself)


async def _replies(means: Means, location: Location, probes: Iterable[Probe]) -> dict[str, Reply]:
    return {probe.key: await _reply(means, location, probe) for probe in probes}


async def _reply(means: Means, location: Location, probe: Probe) -> Reply:
    answer = await means.client.ask(probe.method, location, probe.fields, takes_codings=True)
    body = bytearray()

    def take(data: bytes) -> bool:
        body.extend(data[: MOST - len(body)])
        return len(body) < MOST

    with dropped_on_error(answer):
        require_success(answer.head, only_passing=True)
        await answer.deliver(take)
    return Reply(answer.head, bytes(body))
