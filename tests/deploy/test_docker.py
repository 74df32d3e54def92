"""The image and the composition of ``deploy/docker``, as far as they can be tried without Docker."""

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from ipaddress import ip_address, ip_network
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml

from tests.deploy import DEPLOY, ROOT, replaced
from tests.deploy.dockerfile import environment_of_the_image, instructions, of_the_image, only
from tests.nodes import UNMEASURED, free_port
from tests.running import ANY_PORT, PATIENCE, Running, curl, needed, needs_curl, nobody, running
from txcouchdl.couch.nodes import Node
from txcouchdl.options.table import OPTIONS
from txcouchdl.settings import Settings

DOCKER = DEPLOY / "docker"
VARIABLES = {each.variable for each in OPTIONS}


# The image.


def test_who_runs_it_is_nobody() -> None:
    user, group = only("USER").text.split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_it_is_asked_to_end_as_the_gateway_wants_to_be() -> None:
    """No shell stands between Docker and the process."""
    assert only("STOPSIGNAL").text == "SIGTERM"
    assert only("ENTRYPOINT").words == ["twistd", "-n", "--pidfile=", "couchdl"]


def test_nothing_secret_and_nothing_else_is_in_it() -> None:
    """What is in one layer is in the image, whatever becomes of it later."""
    assert {each.name for each in instructions()} <= {
        *("ARG", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER"),
        "WORKDIR",
    }
    assert [each.text for each in of_the_image("COPY")] == ["--from=build /opt/couchdl /opt/couchdl"]
    assert not of_the_image("RUN")
    assert {each.text.split("=")[0] for each in instructions() if each.name == "ARG"} == {"PYTHON", "VERSION"}


def test_its_variables_are_the_gateways() -> None:
    ours = {name for name in environment_of_the_image() if name.startswith("COUCHDL_")}
    assert ours == {"COUCHDL_LISTEN", "COUCHDL_ACCESS_LOG"}
    assert ours <= VARIABLES


def test_its_labels() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', only("LABEL").text))
    assert set(labels) == {"title", "description", "licenses", "version"}
    assert f'description = "{labels["description"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_what_is_built_from_is_sent_to_the_builder_and_nothing_else() -> None:
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    everything, *others = [each for each in patterns if not each.startswith("#")]
    assert everything == "*"
    sent = {each[1:] for each in others if each.startswith("!")}
    copied = {
        word for each in instructions() if each.name == "COPY" and each.stage == 1 for word in each.text.split()[:-1]
    }
    assert sent == copied
    assert all((ROOT / each).exists() for each in copied)
    dropped = [each.removeprefix("**/") for each in others if not each.startswith("!")]
    for name in ("__pycache__", "options.pyc", "dropin.cache"):
        assert any(fnmatch(name, each) for each in dropped)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[tuple[Running, int]]:
    """The gateway as the image starts it, but for its port, which is this machine's alone; and that port."""
    port = free_port()
    environment = {name: value for name, value in environment_of_the_image().items() if name != "PATH"}
    inside = replaced(environment["COUCHDL_LISTEN"], {"tcp:8000:": f"tcp:{port}:interface=127.0.0.1:"})
    with needed(Running(tmp_path, (), UNMEASURED | environment | {"COUCHDL_LISTEN": inside})) as process:
        process.port()
        yield process, port


@needs_curl
def test_it_runs(image: tuple[Running, int], tmp_path: Path) -> None:
    """Its lines come to standard output, and it writes nothing anywhere."""
    process, port = image
    assert curl(f"http://127.0.0.1:{port}/db/doc/file?token=secret").status in {403, 503}
    process.out.wait_for(r'127\.0\.0\.1 - - \[.*\] "GET /db/doc/file\S* HTTP/1.1" ')
    assert process.stop() == 0
    assert not list(tmp_path.iterdir())
    assert "secret" not in process.text()


def health(port: int, **more_environment: str) -> int:
    """The status of the image's own check."""
    python, *arguments = only("HEALTHCHECK").words
    assert python == "python"
    command = [sys.executable, *(each.replace("8000", str(port)) for each in arguments)]
    return subprocess.run(command, env=more_environment, capture_output=True, timeout=PATIENCE, check=False).returncode


def test_its_health(image: tuple[Running, int]) -> None:
    process, port = image
    assert health(port) == 0
    with nobody() as elsewhere:
        assert health(port, http_proxy=f"http://127.0.0.1:{elsewhere}") == 0
        assert health(elsewhere) == 1
    process.stop()
    assert health(port) == 1


# The composition.


@pytest.fixture(scope="module")
def composition() -> Any:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))


def test_nobody_reaches_couchdb_but_the_gateway(composition: Any) -> None:
    couchdb, gateway = composition["services"]["couchdb"], composition["services"]["gateway"]
    assert "ports" not in couchdb
    assert couchdb["networks"] == ["inside"]
    assert composition["networks"]["inside"]["internal"] is True
    assert gateway["ports"] == ["127.0.0.1:8000:8000"]
    assert only("EXPOSE").text == "8000"


def test_whose_word_is_believed(composition: Any) -> None:
    """Docker's own end of the network, where the port's connections come from."""
    gateway = composition["services"]["gateway"]
    (network,) = composition["networks"]["outside"]["ipam"]["config"]
    assert gateway["environment"]["COUCHDL_TRUSTED_PROXY"] == network["gateway"]
    assert ip_address(network["gateway"]) in ip_network(network["subnet"])
    assert "outside" in gateway["networks"]


def test_how_it_starts_and_ends(composition: Any) -> None:
    gateway = composition["services"]["gateway"]
    assert gateway["depends_on"] == {"couchdb": {"condition": "service_healthy"}}
    assert composition["services"]["couchdb"]["healthcheck"]["test"][0] == "CMD"
    drain: Any = Settings.__attrs_attrs__.drain.default
    assert float(gateway["stop_grace_period"].removesuffix("s")) > drain + 10
    context = DOCKER / gateway["build"]["context"]
    assert (context / gateway["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")


def test_what_both_may(composition: Any) -> None:
    for service in composition["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert composition["services"]["gateway"]["read_only"] is True


def test_what_is_secret_comes_from_outside(composition: Any) -> None:
    """And what is missing is said."""
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    names = set(re.findall(r"\$\{(\w+)", text))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / "env.example").read_text("utf-8"), re.MULTILINE))
    assert names == set(example) == {"COUCHDB_USER", "COUCHDB_PASSWORD", "GATEWAY_PASSWORD"}
    for name in ("COUCHDB_PASSWORD", "GATEWAY_PASSWORD"):
        assert example[name] == ""
        assert f"${{{name}:?" in text
    assert set(composition["services"]["gateway"]["environment"]) <= VARIABLES


def test_the_gateway_is_no_admin(composition: Any) -> None:
    url = composition["services"]["gateway"]["environment"]["COUCHDB_URL"]
    assert "COUCHDB_USER" not in url
    assert url.startswith("http://gateway:${GATEWAY_PASSWORD")


def test_versions_are_pinned(composition: Any) -> None:
    """What is built next year is what was tried."""
    assert re.fullmatch(r"couchdb:\d+\.\d+\.\d+(\.\d+)?", composition["services"]["couchdb"]["image"])
    for each in instructions():
        if each.name == "FROM":
            assert re.fullmatch(r"python:\$\{PYTHON\}-slim-[a-z]+( AS build)?", each.text)
    assert next(each.text for each in instructions() if each.name == "ARG") == "PYTHON=3.13"


@pytest.mark.couchdb
@pytest.mark.skipif("COUCHDB_URL" not in os.environ, reason="COUCHDB_URL names no CouchDB")
def test_the_gateways_user(tmp_path: Path) -> None:
    """Made by the manual's commands, in CouchDB itself; then the gateway downloads with it, and it is no admin."""
    admin = Node.parse(os.environ["COUCHDB_URL"])
    url, name, password = admin.base, f"couchdl-test-{token_hex(8)}", token_hex(8)
    login = b64decode(str(admin.authorization).partition(" ")[2]).decode()
    section = (ROOT / "docs" / "deploying.rst").read_text("utf-8").partition("\nWith Docker\n")[2]
    commands = re.findall(r"^    (docker compose exec .*(?:\n    \{.*\n    END)?)$", section, re.MULTILINE)
    assert len(commands) == 3
    there = {"docker compose exec -T couchdb sh": "sh", "http://127.0.0.1:5984": url, "\n    ": "\n"}
    user, _, secret = login.partition(":")
    more = {"COUCHDB_USER": user, "COUCHDB_PASSWORD": secret, "GATEWAY_PASSWORD": password}

    def call(method: str, path: str, *arguments: str) -> Any:
        return json.loads(curl("-u", login, "-X", method, *arguments, f"{url}{path}").body)

    try:
        for command in commands:
            for old, new in there.items():
                command = command.replace(old, new)
            command = re.sub(r"\bmusic\b|(?<=:|\")gateway\b", name, command)
            ended = subprocess.run(["bash", "-c", command], env=os.environ | more, capture_output=True, check=False)
            assert (ended.returncode, json.loads(ended.stdout)["ok"]) == (0, True), ended.stderr
        rev = call("PUT", f"/{name}/doc", "-d", '{"download_token": "t"}')["rev"]
        call("PUT", f"/{name}/doc/file?rev={rev}", "-d", "content")
        theirs = url.replace("//", f"//{name}:{password}@")
        with running(tmp_path, "-l", ANY_PORT, COUCHDB_URL=theirs) as process:
            process.out.wait_for(f"CouchDB at {url} accepts user '{name}'")
            assert curl(f"http://127.0.0.1:{process.port()}/{name}/doc/file?token=t").body == b"content"
        assert curl(f"{theirs}/_all_dbs").status in {401, 403}
    finally:
        found = call("GET", f"/_users/org.couchdb.user:{name}").get("_rev")
        call("DELETE", f"/_users/org.couchdb.user:{name}?rev={found}")
        call("DELETE", f"/{name}")


def test_couchdbs_configuration(composition: Any) -> None:
    source, inside, mode = composition["services"]["couchdb"]["volumes"][1].split(":")
    assert (inside.startswith("/opt/couchdb/etc/local.d/"), mode) == (True, "ro")
    configuration = ConfigParser()
    configuration.read(DOCKER / source)
    assert configuration.getint("couchdb", "attachment_stream_buffer_size") >= 65536
    assert configuration.getboolean("couchdb", "single_node")
