"""The Dockerfile, read as far as ours goes."""

import json
import re
import shlex

from attrs import frozen

from tests.deploy import DEPLOY


@frozen
class Instruction:
    """
    :ivar stage: which FROM it stands behind, from 1 on.
    :ivar name: in capitals.
    """

    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of the exec form."""
        words = json.loads(self.text[self.text.index("[") :])
        assert all(isinstance(each, str) for each in words)
        return list(words)


def instructions() -> list[Instruction]:
    """All of them, each on one line."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
    without_comments = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    found, stage = [], 0
    for line in without_comments.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            stage += name == "FROM"
            found.append(Instruction(stage, name, rest.strip()))
    return found


def of_the_image(name: str) -> list[Instruction]:
    """Those of the last stage, which is what remains."""
    everything = instructions()
    return [each for each in everything if each.name == name and each.stage == everything[-1].stage]


def only(name: str) -> Instruction:
    (found,) = of_the_image(name)
    return found


def environment_of_the_image() -> dict[str, str]:
    pairs = [word.partition("=") for each in of_the_image("ENV") for word in shlex.split(each.text)]
    return {name: value for name, _, value in pairs}
