"""The containers, as far as they can be tried without Docker: their files, and their very commands."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from online.core.config import overrides
from online.core.home import Home
from online.storage.snapshot import SnapshotStore
from server.commands import serve_command as cli
from server.processes.supervisor import GRACE_SECONDS
from tests.support.rows import TARGET, stream_rows
from tests.support.running import until

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
IN_CONTAINER = "/srv/millrace"
NOBODY = 65534
PORTS = {"scorer": 8000, "monitor": 8050}

each_service = pytest.mark.parametrize("role", sorted(SERVICES))
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


class Dockerfile:
    """The instructions of a Dockerfile, continued lines joined."""

    def __init__(self, path: Path) -> None:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        text = "\n".join(lines).replace("\\\n", " ")
        self.instructions = [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]

    def all(self, name: str) -> list[str]:
        return [rest for instruction, rest in self.instructions if instruction == name]

    def exec_form(self, name: str) -> list[str]:
        """The last one's command; fails when it is in shell form."""
        last = self.all(name)[-1]
        return [str(word) for word in json.loads(last[last.index("[") :])]

    def environ(self) -> dict[str, str]:
        """What the runtime stage sets, the PATH aside."""
        found = dict(re.findall(r"(\w+)=(\S+)", self.all("ENV")[-1]))
        del found["PATH"]
        return found

    def left_out(self) -> list[str]:
        """Packages of the lock file that the image does without, pip aside."""
        named = re.findall(r"pip uninstall --yes ([a-z ]+)", " ".join(self.all("RUN")))
        return [name for names in named for name in names.split() if name != "pip"]


def dockerfile(role: str) -> Dockerfile:
    return Dockerfile(ROOT / SERVICES[role]["build"]["dockerfile"])


def command(role: str) -> list[str]:
    """What the container runs."""
    image = dockerfile(role)
    own: list[str] = SERVICES[role].get("command", image.exec_form("CMD"))
    return image.exec_form("ENTRYPOINT") + own


def health_check(role: str) -> list[str]:
    """How the container's health is asked for."""
    own = SERVICES[role].get("healthcheck", {}).get("test")
    assert own is None or own[0] == "CMD"
    return own[1:] if own else dockerfile(role).exec_form("HEALTHCHECK")


# the files


@pytest.mark.containers
@each_dockerfile
def test_dockerfiles_pass_hadolint(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: make setup-dev")
    done = subprocess.run([hadolint, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@each_dockerfile
def test_images_run_as_a_fixed_user_that_is_not_root(path: Path) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", Dockerfile(path).all("USER")[-1])


@each_dockerfile
def test_images_install_exactly_what_is_locked(path: Path) -> None:
    installs = [
        step for run in Dockerfile(path).all("RUN") for step in run.split("&&") if "pip install" in step
    ]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0] and "-r requirements.lock" in installs[0]
    assert {"--no-deps", "--no-build-isolation", "--no-index"} <= set(installs[1].split())


@each_dockerfile
def test_the_build_context_has_what_images_copy(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in Dockerfile(path).all("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert "*" in ignored
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)


@each_service
def test_commands_are_real_invocations(role: str) -> None:
    program, subcommand, *arguments = command(role)
    given = cli.serve.make_context("serve", arguments).params
    assert (program, subcommand) == ("millrace", "serve")
    assert given["role"] == role
    assert given["home"] == Home(Path(IN_CONTAINER))
    if role in PORTS:
        assert given["host"] == "0.0.0.0"
        assert given["port" if role == "scorer" else "monitor_port"] == PORTS[role]
        assert health_check(role)[:2] == ["millrace", "health"]
        assert health_check(role)[-1] == f"http://127.0.0.1:{PORTS[role]}"
        (published,) = SERVICES[role]["ports"]
        assert re.fullmatch(rf"127\.0\.0\.1:\${{\w+:-{PORTS[role]}}}:{PORTS[role]}", published)
    if role == "monitor":
        assert given["api_url"] == f"http://scorer:{PORTS['scorer']}"


@each_service
def test_services_are_confined(role: str) -> None:
    service = SERVICES[role]
    user = re.sub(r"\$\{(\w+):-(\d+)\}", r"\2", service["user"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"


def test_all_services_share_one_home() -> None:
    mounts = {role: {m["target"]: m["source"] for m in s["volumes"]} for role, s in SERVICES.items()}
    home = Home(Path())
    wanted = {f"{IN_CONTAINER}/{path}": f"./{path}" for path in (home.data, home.models, home.config)}
    assert mounts == {"scorer": wanted, "learner": wanted, "monitor": wanted}


def test_scorer_and_learner_are_the_same_image() -> None:
    assert SERVICES["scorer"]["image"] == SERVICES["learner"]["image"] != SERVICES["monitor"]["image"]
    assert SERVICES["scorer"]["build"] == SERVICES["learner"]["build"]


def test_compose_stops_the_scorer_before_the_learner_and_gives_each_its_time() -> None:
    assert "learner" in SERVICES["scorer"]["depends_on"]
    assert SERVICES["monitor"]["depends_on"] == {"scorer": {"condition": "service_healthy"}}
    for role, seconds in GRACE_SECONDS.items():
        service = SERVICES[role if role in SERVICES else "learner"]  # the watcher lives beside the learner
        assert float(service["stop_grace_period"].removesuffix("s")) > seconds


def test_variables_of_the_compose_file_are_settings_or_leave_the_settings_alone() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    named = set(re.findall(r"\bMILLRACE_[A-Z_]+", text))
    passed_on = {name for service in SERVICES.values() for name in service.get("environment", [])}
    assert passed_on == named
    assert len(overrides(dict.fromkeys(named, "secret"))) == len(named)


# the commands, run by hand


@functools.cache
def as_nobody() -> tuple[str, ...]:
    """What to put before a command so that it runs as somebody who is not root.

    An interpreter in root's own folder is out of a plain user's reach; then one capability is left, the one
    that lets files be read, which lets nothing be written.
    """
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root, and no setpriv to become somebody else")
    plain = (setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all")
    reading = (
        *plain[:-1], "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    )  # fmt: skip
    # twice over: setpriv itself may still reach what the processes it starts cannot
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import millrace'], check=True)"
    for prefix in (plain, reading):
        tried = subprocess.run([*prefix, sys.executable, "-c", nested], cwd="/", capture_output=True)
        if tried.returncode == 0:
            return prefix
    pytest.skip("nobody but root can reach the interpreter, or may set capabilities here")


@pytest.fixture
def place(trained_home: Path) -> Iterator[Path]:
    """What a container has: a home, an empty working folder that cannot be written, a folder for /tmp."""
    root = Path(tempfile.mkdtemp(prefix="millrace-containers-"))
    try:
        home = Home(Path(shutil.copytree(trained_home, root / "home")))
        for folder in (root / "empty", root / "tmp"):
            folder.mkdir()
        if as_nobody():
            for path in (root / "tmp", home.data, home.models, *home.data.iterdir(), *home.models.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        home.config.chmod(0o444)
        for folder in (root, home.root, root / "empty"):
            folder.chmod(0o555)
        yield root
    finally:
        for folder in (root, root / "home", root / "empty"):
            folder.chmod(0o755)
        shutil.rmtree(root)


class Container:
    """A service's command as its container would run it, on a free port.

    ``replaced`` are the texts that differ from the container's command.
    """

    def __init__(self, role: str, place: Path, replaced: dict[str, str]) -> None:
        self.role = role
        self.place = place
        self.replaced = {IN_CONTAINER: str(place / "home")} | replaced
        self.environ = dockerfile(role).environ() | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "TMPDIR": str(place / "tmp"),
            "PYTHONPATH": str(without(dockerfile(role).left_out(), place / "tmp" / role)),
        }
        self.log = place / "tmp" / f"{role}.log"
        arguments = ["0" if word == str(PORTS.get(role)) else word for word in command(role)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.adapted(arguments), cwd=place / "empty", env=self.environ, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def adapted(self, arguments: list[str]) -> list[str]:
        """The command with this place's home and addresses, as a user that is not root."""
        for old, new in self.replaced.items():
            arguments = [argument.replace(old, new) for argument in arguments]
        return [*as_nobody(), *arguments]

    def address(self) -> str:
        """Where it says that it listens."""
        pattern = re.compile(rf"^{'API' if self.role == 'scorer' else self.role} +(http://\S+)", re.M)
        found = until(
            lambda: self.alive() and pattern.search(self.log.read_text()), f"the {self.role}'s address"
        )
        self.replaced[f"http://127.0.0.1:{PORTS[self.role]}"] = found[1]
        return str(found[1])

    def alive(self) -> bool:
        """True; fails with its log when the process has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return True

    def healthy(self) -> bool:
        """Whether the container's own health check passes."""
        return self.run(health_check(self.role)).returncode == 0

    def well(self) -> bool:
        """Alive and healthy."""
        return self.alive() and self.healthy()

    def run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Run another command in the same place."""
        return subprocess.run(
            self.adapted(arguments),
            cwd=self.place / "empty",
            env=self.environ,
            capture_output=True,
            text=True,
        )

    def uids(self) -> set[int]:
        """Real and effective user of the process and its children."""
        pids = [self.process.pid]
        pids += [int(pid) for pid in Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()]
        lines = [re.search(r"^Uid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M) for pid in pids]
        return {int(uid) for line in lines if line for uid in line[1].split()}

    def stop(self) -> int:
        """SIGTERM to the one process that a container's stop reaches; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(2 * GRACE_SECONDS["learner"])


def without(packages: list[str], folder: Path) -> Path:
    """A folder for PYTHONPATH that makes packages look as if they were not installed."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return folder


@contextlib.contextmanager
def started(role: str, place: Path, **replaced: str) -> Iterator[Container]:
    """A container for a while; killed if it is still there, its children then end by themselves."""
    container = Container(
        role, place, {f"http://{name}:{PORTS[name]}": url for name, url in replaced.items()}
    )
    try:
        yield container
    finally:
        if container.process.poll() is None:
            container.process.kill()
            container.process.wait()
        sys.stdout.write(container.log.read_text())


DRAW_ALL = """
import sys
from server.monitor.monitor_app import page_parts
from server.monitor.api_reader import ApiReader, open_client
reading = ApiReader(open_client(sys.argv[1])).read()
print(reading.down, *reading.problems, file=sys.stderr)
drawn = page_parts(reading, "light", 0.0)
for part in drawn.values():
    part.build()
print(*sorted(drawn))
"""


@pytest.mark.containers
def test_the_containers_commands_serve_learn_and_stop_without_root(place: Path) -> None:
    with (
        started("learner", place) as learner,
        started("scorer", place) as scorer,
        httpx.Client(base_url=scorer.address(), timeout=90.0) as api,
        started("monitor", place, scorer=str(api.base_url).rstrip("/")) as monitor,
        httpx.Client(base_url=monitor.address(), timeout=90.0) as page,
    ):
        containers = (monitor, scorer, learner)  # in the order in which compose stops them
        for container in containers:
            until(container.well, f"a healthy {container.role}")
            assert 0 not in container.uids()
        (row,), (label,) = stream_rows(place / "home", 1)
        served = api.post("/predict", json=row).json()
        learned = api.post("/learn", params={"wait": "1"}, json={"id": served["id"], TARGET: label})
        assert learned.status_code == 200, learned.text
        again = api.post("/predict", json=row).json()
        assert again["learned_seq"] == learned.json()["seq"] > served["learned_seq"]
        assert again["prediction"] != served["prediction"]
        assert api.get("/health/live").status_code == page.get("/health/live").status_code == 200
        drawn = monitor.run(["python", "-c", DRAW_ALL, str(api.base_url)])
        assert {"rolling", "truth", "errors", "status", "versions"} <= set(drawn.stdout.split()), drawn.stderr
        for container in containers:
            assert container.stop() == 0, container.log.read_text()
        assert not learner.healthy()
    last = SnapshotStore(Home(place / "home").models).manifests()[0]
    assert (last.reason, last.seq) == ("shutdown", again["learned_seq"])
    assert list((place / "empty").iterdir()) == []
    assert {path.name for path in (place / "home").iterdir()} == {"data", "models", "millrace.toml"}
