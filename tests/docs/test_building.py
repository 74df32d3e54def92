"""The pages are built without a warning, and the references on them say what the code says."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import click
import pytest

import txcouchdl.cli.main
from tests.docs.pages import DOCS
from txcouchdl.options.table import OPTIONS, Number, Option

pytest.importorskip("sphinx", reason="Sphinx is not installed (tox -e docs)")

COMMAND = txcouchdl.cli.main.cli


def build(source: Path, target: Path, form: str) -> "subprocess.CompletedProcess[str]":
    """
    Build pages, as ``tox -e docs`` does.

    :param form: what they are made to; ``dummy`` for nothing.
    """
    options = ("-q", "-W", "--keep-going", "-n", "-E", "-d", str(target / "doctrees"), "-b", form)
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-c", str(DOCS), str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("html")
    ended = build(DOCS, target, "html")
    assert (ended.returncode, ended.stderr) == (0, "")
    return target


def text_of(page: str) -> str:
    """What stands on a page, or a piece of one, without its tags."""
    return " ".join(unescape(re.sub("<[^>]*>", "", page)).split())


def entries_of(page: Path) -> list[str]:
    """The options that a page describes."""
    found = re.findall(r'<dl class="std option">(.*?)</dl>', page.read_text("utf-8"), re.DOTALL)
    return [text_of(each.replace("</dt>", " : ")) for each in found]


def test_nothing_is_fetched_from_elsewhere(built: Path) -> None:
    loading = ('src="http', "url(http", "@import", 'rel="stylesheet" href="http', 'src="//')
    for path in built.rglob("*.html"):
        page = path.read_text("utf-8")
        assert not [each for each in loading if each in page], path.name


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option(built: Path, option: Option) -> None:
    value = "" if option.is_switch else f" {option.metavar}"
    short = "" if option.short is None else f"-{option.short}{value}, "
    entries = entries_of(built / "options.html")
    (told,) = (each for each in entries if each.startswith(f"{short}--{option.name}{value}¶ :"))
    assert " ".join(option.meaning.split()) in told
    assert f"variable: {option.variable}" in told
    assert f"default: {option.default};" in told or not option.default
    assert (f"in a file: {option.name} = " in told) is option.is_in_file
    assert not isinstance(option, Number) or f"bounds: {option.least} to {option.most};" in told


@pytest.mark.parametrize("name", COMMAND.commands)
def test_a_command(built: Path, name: str) -> None:
    page = text_of((built / "couchdl.html").read_text("utf-8"))
    command = COMMAND.commands[name]
    assert f"couchdl {name} [OPTIONS]" in page
    for words in words_of(command):
        assert words in page
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(each in page for each in parameter.opts)
            assert " ".join((parameter.help or "").split()) in page
            assert f"default: {parameter.default}" in page or not parameter.show_default
            if isinstance(parameter.type, click.IntRange | click.FloatRange):
                assert f"bounds: {parameter.type.min}<=x<={parameter.type.max}." in page


def test_lines_of_a_command_stay_lines(built: Path) -> None:
    page = unescape(re.sub("<[^>]*>", "", (built / "couchdl.html").read_text("utf-8")))
    paragraphs = inspect.cleandoc(COMMAND.commands["get"].help or "").split("\n\n")
    (verbatim,) = (each for each in paragraphs if each.startswith("\b\n"))
    assert verbatim.count("\n") > 5
    assert verbatim.removeprefix("\b\n") in page


def test_the_command(built: Path) -> None:
    page = text_of((built / "couchdl.html").read_text("utf-8"))
    assert "couchdl [OPTIONS] COMMAND [ARGS]..." in page
    assert all(words in page for words in words_of(COMMAND))


def words_of(command: click.Command) -> Iterator[str]:
    """What a command says of itself, line by line."""
    told = (command.help or "").replace("\b", "")
    yield from filter(None, (" ".join(line.split()) for line in told.splitlines()))


def test_no_name_becomes_a_link(built: Path) -> None:
    page = (built / "options.html").read_text("utf-8")
    assert "mailto:" not in page
    assert 'href="http://localhost' not in page
    assert 'href="tcp:' not in page


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    wrong = {
        "option": ".. couchdl-options::\n\n   listen\n   lsten",
        "command": ".. couchdl-command:: gte",
        "reference": ":doc:`nowhere`",
        "role": ":unknown:`x`",
    }
    for name, page in wrong.items():
        (source / f"{name}.rst").write_text(f":orphan:\n\nPage\n====\n\n{page}\n", "utf-8")
    (source / "index.rst").write_text("Index\n=====\n", "utf-8")
    ended = build(source, tmp_path / "nothing", "dummy")
    assert ended.returncode == 1
    assert {name for name in ("index", *wrong) if f"{name}.rst:" in ended.stderr} == {*wrong}
