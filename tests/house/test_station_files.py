"""The unit, the images and their composition: no daemon runs here, so their grammar is held to."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
import pytest
import yaml
from mosquitto_broker import NOT_INSTALLED, free_port

import lineside
from lineside.cli.main import lineside as command_line
from lineside.station import read_configuration

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "examples/station"
UNIT: Final = FOLDER / "lineside.service"
IMAGES: Final = ("Containerfile", "Containerfile.jetson")
# What the user puts beside the composition; the document says so.
BROUGHT: Final = {
    *("joint.lsb", "factory.pub", "frames", "broker.password", "mosquitto.passwords"),
}

# systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5): those that we use or may.
DIRECTIVES: Final = {
    "Unit": {
        *("Description", "Documentation", "After", "Wants", "Requires", "StartLimitIntervalSec"),
        *("StartLimitBurst",),
    },
    "Service": {
        *("Type", "NotifyAccess", "ExecStart", "User", "Group", "SupplementaryGroups", "Restart"),
        *(
            "RestartSec",
            "TimeoutStartSec",
            "TimeoutStopSec",
            "WatchdogSec",
            "OOMPolicy",
            "Environment",
        ),
        *("CacheDirectory", "CacheDirectoryMode", "StateDirectory", "UMask", "NoNewPrivileges"),
        *("CapabilityBoundingSet", "AmbientCapabilities", "ProtectSystem", "ProtectHome"),
        *("PrivateTmp", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "ProtectControlGroups", "ProtectProc", "RestrictNamespaces"),
        *("RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "RemoveIPC"),
        *("SystemCallArchitectures", "RestrictAddressFamilies", "ReadWritePaths"),
    },
    "Install": {"WantedBy"},
}
BOOLEANS: Final = re.compile(r"(?:NoNew|Private|Restrict(?:N|R|S)|Lock|Remove|ProtectK|ProtectC)")


def read_unit(text: str) -> dict[str, dict[str, list[str]]]:
    """Sections with their directives; ``ValueError`` for what systemd would pass over or refuse."""
    sections: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
            if section not in DIRECTIVES or section in sections:
                raise ValueError(f"section unknown or twice: {line}")
            sections[section] = {}
            continue
        key, equals, value = line.partition("=")
        if not equals or key not in DIRECTIVES.get(section, ()):
            raise ValueError(f"no directive of [{section}]: {line}")
        if key.endswith("Sec") and not re.fullmatch(r"\d+(?:ms|s|min|h)?", value):
            raise ValueError(f"no time span: {line}")
        if BOOLEANS.match(key) and value not in ("yes", "no"):
            raise ValueError(f"neither yes nor no: {line}")
        sections[section].setdefault(key, []).append(value)
    return sections


def test_the_unit_is_as_systemd_wants_it() -> None:
    unit = read_unit(UNIT.read_text("utf-8"))
    service = unit["Service"]
    assert set(unit) == {"Unit", "Service", "Install"}
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["always"]
    assert int(service["WatchdogSec"][0]) >= 10  # a beat comes at least once a second
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} == set(service["RestrictAddressFamilies"][0].split())
    # Each key once, or the later one wins without a word.
    assert not [key for key, values in service.items() if len(values) > 1]


def test_the_unit_starts_a_verb_that_there_is() -> None:
    (start,) = read_unit(UNIT.read_text("utf-8"))["Service"]["ExecStart"]
    program, verb, *arguments = shlex.split(start)
    assert program == "/opt/lineside/bin/lineside"  # docs/devices.md installs it there
    assert verb in command_line.list_commands(None)  # type: ignore[arg-type]
    assert arguments == ["/etc/lineside/station.toml"]


def systemd_complaints(text: str, folder: Path) -> str:
    """What ``systemd-analyze verify`` says; where it is not installed, what our reader says."""
    program = shutil.which("systemd-analyze")
    if program is None:
        try:
            read_unit(text)
        except ValueError as error:
            return str(error)
        return ""
    unit = folder / "lineside.service"
    # The program itself is not installed where the tests run.
    unit.write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", text, flags=re.M), "utf-8")
    done = subprocess.run(
        [program, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    return "".join(line for line in done.stderr.splitlines() if "lineside.service" in line)


def test_systemd_has_no_complaints(tmp_path: Path) -> None:
    assert systemd_complaints(UNIT.read_text("utf-8"), tmp_path) == ""


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("WatchdogSec=60", "WatchdogSeconds=60"),
        ("WatchdogSec=60", "WatchdogSec=soon"),
        ("NoNewPrivileges=yes", "NoNewPrivileges=perhaps"),
        ("[Service]", "[Servce]"),
    ],
)
def test_a_fault_in_the_unit_would_be_seen(tmp_path: Path, good: str, bad: str) -> None:
    text = UNIT.read_text("utf-8")
    assert good in text
    spoilt = text.replace(good, bad)
    assert systemd_complaints(spoilt, tmp_path)
    with pytest.raises(ValueError, match=r"."):
        read_unit(spoilt)


# Images: the Dockerfile reference's grammar.

INSTRUCTIONS: Final = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


def read_image(text: str) -> list[tuple[str, str]]:
    """Instructions with their words, continuations joined; ``ValueError`` for what is none."""
    found: list[tuple[str, str]] = []
    logical = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or (logical and not line.strip()):
            continue  # comments may stand between continued lines
        logical += line.rstrip().removesuffix("\\") + " "
        if line.rstrip().endswith("\\"):
            continue
        if logical.strip():
            found.append(_instruction(" ".join(logical.split())))
        logical = ""
    if logical:
        raise ValueError(f"the last line goes on: {logical}")
    return found


def _instruction(line: str) -> tuple[str, str]:
    word, _, rest = line.partition(" ")
    if word not in INSTRUCTIONS or not rest:
        raise ValueError(f"no instruction: {line}")
    if "<<" in rest:
        raise ValueError(f"here-documents are not read here: {line}")
    if rest.startswith("["):
        values = json.loads(rest)  # the exec form is JSON, or it silently becomes a shell's words
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"not strings: {line}")
    elif word in ("CMD", "ENTRYPOINT"):
        raise ValueError(f"a shell would hold back SIGTERM: {line}")
    return word, rest


def image(name: str) -> list[tuple[str, str]]:
    return read_image((FOLDER / name).read_text("utf-8"))


def options(rest: str) -> tuple[dict[str, str], list[str]]:
    """``--key=value`` words ahead, then the others."""
    words = shlex.split(rest)
    ahead = [word for word in words if word.startswith("--")]
    pairs = dict(word.removeprefix("--").split("=", 1) for word in ahead)
    return pairs, words[len(ahead) :]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_made_of_what_is_here(name: str) -> None:
    stages: set[str] = set()
    contexts = {"wheels"}  # --build-context, named in the file's head
    for word, rest in image(name):
        if word == "FROM" and " AS " in rest:
            stages.add(rest.split(" AS ")[1])
        if word != "COPY":
            continue
        given, (*sources, _) = options(rest)
        if "from" in given:
            assert given["from"] in stages | contexts, rest
        else:
            assert sources, rest
            assert all((ROOT / source).exists() for source in sources), rest


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_pinned_and_no_root_runs_in_it(name: str) -> None:
    lines = image(name)
    arguments = dict(rest.split("=", 1) for word, rest in lines if word == "ARG")
    for base in [rest.split(" AS ")[0] for word, rest in lines if word == "FROM"]:
        known = re.sub(r"\$\{(\w+)\}", lambda one: arguments[one[1]], base)
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", known), known
    assert [rest for word, rest in lines if word == "USER"][-1] == "10001"
    last = [word for word, _ in lines]
    assert last.index("USER") < last.index("ENTRYPOINT")
    runs = [rest for word, rest in lines if word == "RUN"]
    installs = [part for rest in runs for part in rest.split("&&") if "pip install" in part]
    assert installs
    of_its_own = [part for part in installs if "/wheels/onnxruntime_gpu" in part]
    assert all("-c /build/constraints.txt" in part for part in installs if part not in of_its_own)
    assert len(of_its_own) == (name == "Containerfile.jetson")


@pytest.mark.parametrize("name", IMAGES)
def test_what_an_image_runs_a_shell_can_read(name: str) -> None:
    runs = [re.sub(r"^(?:--\S+ )+", "", rest) for word, rest in image(name) if word == "RUN"]
    for words in runs:
        done = subprocess.run(["sh", "-n", "-c", words], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_starts_the_station_and_keeps_its_outbox(name: str) -> None:
    told = dict(image(name))  # of each instruction the last
    assert json.loads(told["ENTRYPOINT"]) == ["/opt/lineside/bin/lineside"]
    assert json.loads(told["CMD"]) == ["run", "/etc/lineside/station.toml"]
    assert "/var/lib/lineside" in json.loads(told["VOLUME"])
    settings = read_configuration(FOLDER / "station.toml")
    assert settings.outbox.path.is_relative_to("/var/lib/lineside")
    assert "LINESIDE_CACHE=/var/cache/lineside" in told["ENV"]


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_of_the_repository_but_its_parts_is_sent_to_the_builder(name: str) -> None:
    lines = (FOLDER / f"{name}.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    copied = {
        source
        for word, rest in image(name)
        if word == "COPY" and "from" not in options(rest)[0]
        for source in options(rest)[1][:-1]
    }
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


@pytest.mark.parametrize(
    "text",
    ["FORM x", "RUN", "CMD run it", 'CMD ["run", it]', "CMD ['run']", "RUN a \\\n", "RUN cat <<E"],
)
def test_a_fault_in_an_image_would_be_seen(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_image(text)


# The composition.


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""


def _no_repetition(loader: StrictLoader, node: yaml.MappingNode) -> dict[str, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key twice: {keys}"
    return dict(loader.construct_pairs(node, deep=True))


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_repetition)

# compose-spec, those that we use.
SERVICE_KEYS: Final = {
    *("build", "image", "restart", "init", "stop_grace_period", "read_only", "tmpfs", "cap_drop"),
    *("security_opt", "networks", "depends_on", "secrets", "volumes", "healthcheck", "user"),
    *("ports",),
}


@pytest.fixture(scope="module")
def composition() -> dict[str, Any]:
    loaded = yaml.load((FOLDER / "compose.yaml").read_text("utf-8"), StrictLoader)
    assert isinstance(loaded, dict)
    return loaded


def test_the_composition_has_no_key_that_nobody_knows(composition: dict[str, Any]) -> None:
    assert set(composition) == {"name", "services", "networks", "volumes", "secrets"}
    for service in composition["services"].values():
        assert set(service) <= SERVICE_KEYS


def test_the_composition_names_what_is_here_or_is_brought(composition: dict[str, Any]) -> None:
    document = (ROOT / "docs/devices.md").read_text("utf-8")
    station = composition["services"]["station"]
    assert (FOLDER / station["build"]["context"]).resolve() == ROOT
    assert (ROOT / station["build"]["dockerfile"]).is_file()
    brought = {composition["secrets"]["broker_password"]["file"].removeprefix("./")}
    for service in composition["services"].values():
        assert set(service["networks"]) <= set(composition["networks"])
        assert set(service.get("secrets", ())) <= set(composition["secrets"])
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if not source.startswith("./"):
                assert source in composition["volumes"]
            elif not (FOLDER / source).exists():
                brought.add(source.removeprefix("./"))
                assert mount.endswith(":ro")
    assert brought == BROUGHT
    assert all(f"`{name}`" in document for name in BROUGHT)


def test_the_station_of_the_composition_reaches_its_broker_and_nobody_else(
    composition: dict[str, Any],
) -> None:
    services, settings = composition["services"], read_configuration(FOLDER / "station.toml")
    station = services["station"]
    assert [composition["networks"][name]["internal"] for name in station["networks"]] == [True]
    assert "ports" not in station
    assert settings.mqtt.address.host in services
    assert settings.mqtt.password_file == Path("/run/secrets/broker_password")
    (check,) = [word for word in station["healthcheck"]["test"] if "urllib" in word]
    assert f"http://{settings.health.listen}/healthz" in check
    compile(check, "healthcheck", "exec")
    (bundle,) = settings.bundles
    for path in (bundle.path, *bundle.trust):
        assert any(f":/etc/lineside/{path.name}:ro" in mount for mount in station["volumes"])
    assert any(f":{settings.source.path}:ro" in mount for mount in station["volumes"])


def test_every_service_is_pinned_comes_back_and_has_no_rights(composition: dict[str, Any]) -> None:
    for service in composition["services"].values():
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", service["image"])
        assert service["restart"] == "always"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert composition["services"]["station"]["image"] == f"lineside:{lineside.__version__}"


def test_nothing_secret_is_here() -> None:
    for file in FOLDER.iterdir():
        assert not re.search(r"(?i)(?:password|token|secret)\s*[=:]\s*[\"'][^/]", file.read_text())
    assert not any((FOLDER / name).exists() for name in BROUGHT)


# The broker's own configuration, by the real one.


@pytest.fixture
def broker_port(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    assert program is not None, NOT_INSTALLED
    port, passwords = free_port(), tmp_path / "passwords"
    passwords.write_text("aoi1:open\n", "utf-8")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
    text = (FOLDER / "mosquitto.conf").read_text("utf-8")
    for inside, here in (
        ("listener 1883", f"user {getpass.getuser()}\nlistener {port} 127.0.0.1"),
        ("/mosquitto/config/passwords", str(passwords)),
        ("/mosquitto/data/", f"{tmp_path}/"),
    ):
        assert inside in text
        text = text.replace(inside, here)
    (tmp_path / "mosquitto.conf").write_text(text, "utf-8")
    process = subprocess.Popen(
        [program, "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.PIPE
    )
    yield port
    process.kill()
    process.communicate()


def knock(port: int, user: str, password: str) -> str:
    """What the broker answers."""
    deadline_s = time.monotonic() + 20
    while True:
        heard: list[str] = []
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.username_pw_set(user, password)
        client.on_connect = lambda _c, _u, _f, code, _p, heard=heard: heard.append(str(code))
        try:
            client.connect("127.0.0.1", port)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline_s, "mosquitto does not answer"
            time.sleep(0.05)
            continue
        while not heard:
            assert client.loop(1.0) in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_CONN_REFUSED), heard
        client.disconnect()
        return heard[0]


def test_the_broker_takes_its_configuration_and_lets_only_the_station_in(broker_port: int) -> None:
    assert knock(broker_port, "aoi1", "open") == "Success"
    assert knock(broker_port, "aoi1", "shut") == "Not authorized"
    assert knock(broker_port, "", "") == "Not authorized"
