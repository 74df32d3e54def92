"""What stands in ``deploy/``, run as it is there but for the places and ports of this machine."""

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def replaced(text: str, substitutes: Mapping[str, str]) -> str:
    """A file's text, with what cannot be the same on this machine. All of it has to be there."""
    for each, substitute in substitutes.items():
        assert each in text, f"{each!r} is not there any more"
        text = text.replace(each, substitute)
    return text
