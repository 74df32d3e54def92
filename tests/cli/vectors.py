"""The vectors of ``docs/links.rst``, as command lines."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent.parent / "docs" / "link-vectors.json").read_text()
)


def command_line(vector: dict[str, Any], directory: Path) -> tuple[str, list[str]]:
    """
    :param directory: for files with secrets.
    :return: the path of its address, and options.
    """
    names = (vector["database"], vector["document_id"], vector["attachment"] or "")
    path = "/".join(["", *(quote(name, safe="") for name in names)])
    (directory / "token").write_text(vector["token"])
    ends = datetime.fromtimestamp(vector["expires"], UTC).isoformat()
    arguments = ["--token-file", str(directory / "token"), "--expires", ends]
    if vector["secret"] is not None:
        (directory / "secret").write_text(vector["secret"])
        arguments += ["--link-secret-file", str(directory / "secret")]
    for option in ("download", "rev"):
        if option in vector:
            arguments += [f"--{option}", vector[option]]
    if "grace" in vector:
        arguments += ["--grace", f"{vector['grace']}s"]
    return path, arguments
