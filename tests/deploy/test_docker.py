"""The image and the composition of ``deploy/docker``, as far as they can be tried without Docker."""

import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import DEPLOY, ROOT, replaced
from tests.deploy.dockerfile import environment_of_the_image, instructions, of_the_image, only
from tests.nodes import UNMEASURED, free_port
from tests.running import PATIENCE, Running, curl, needed, needs_curl, nobody
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
    assert names == set(example) == {"COUCHDB_USER", "COUCHDB_PASSWORD"}
    assert example["COUCHDB_PASSWORD"] == ""
    assert "${COUCHDB_PASSWORD:?" in text
    assert set(composition["services"]["gateway"]["environment"]) <= VARIABLES


def test_couchdbs_configuration(composition: Any) -> None:
    source, inside, mode = composition["services"]["couchdb"]["volumes"][1].split(":")
    assert (inside.startswith("/opt/couchdb/etc/local.d/"), mode) == (True, "ro")
    configuration = ConfigParser()
    configuration.read(DOCKER / source)
    assert configuration.getint("couchdb", "attachment_stream_buffer_size") >= 65536
    assert configuration.getboolean("couchdb", "single_node")
