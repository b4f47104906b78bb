"""What is in deploy/: units, images and manifests, held against the tools that read them, and
against what docs/running promises of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from livingai.cli.main import COMMANDS
from tests.support import acts
from tests.support.agents import ROOT, environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import command
from tests.support.sqlite import refusing

DEPLOY = ROOT / "deploy"
STATE = "/var/lib/livingai"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def tool(name: str) -> str:
    """Its path; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def parsed(arguments: list[str]) -> None:
    """What is given to ``livingai`` is what the command takes. Raises click.UsageError."""
    name, *rest = arguments
    COMMANDS[name].load().make_context(name, rest)


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the unit and the manifests set it."""
    monkeypatch.setenv("LIVINGAI_STORE", "sqlite:////var/lib/livingai/agent.db")


def test_what_a_command_does_not_take_is_noticed() -> None:
    for wrong in (["drain", "a", "b"], ["serve", "--drain", "5"], ["status", "--timeout", "5"]):
        with pytest.raises(click.UsageError):
            parsed(wrong)


# -- systemd --

UNIT = (DEPLOY / "systemd" / "livingai.service").read_text(encoding="utf-8")


def setting(name: str) -> str:
    """The value of a setting of the unit."""
    (found,) = [line for line in UNIT.splitlines() if line.startswith(f"{name}=")]
    return found.partition("=")[2]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With the path of the program that is here; its sandbox leaves little."""
    analyze = tool("systemd-analyze")
    program = Path(sys.executable).with_name("livingai")
    assert program.exists()
    unit = tmp_path / "livingai.service"
    unit.write_text(UNIT.replace("/opt/livingai/bin/livingai", str(program)))
    for asked in (["verify"], ["security", "--offline=true", "--threshold=25"]):
        told = subprocess.run(
            [analyze, *asked, str(unit)], capture_output=True, text=True, check=False,
            timeout=patience(120),
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr
        assert asked != ["verify"] or not told.stderr.strip(), told.stderr


def test_the_unit_gives_the_service_what_it_needs() -> None:
    assert setting("Type") == "notify"
    assert setting("NotifyAccess") == "main"
    assert setting("KillMode") == "mixed"
    assert setting("ProtectSystem") == "strict"
    assert f"/var/lib/{setting('StateDirectory')}" == STATE
    assert "MemoryDenyWriteExecute=" not in UNIT
    assert int(setting("WatchdogSec")) >= 10
    program, *arguments = setting("ExecStart").split()
    assert program.endswith("/livingai")
    parsed(arguments)
    assert arguments[arguments.index("--directory") + 1].startswith(STATE)
    assert int(setting("LimitNOFILE")) >= 65536


# -- Kubernetes --


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a manifest."""
    return [*yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def pod(path: Path) -> dict[str, Any]:
    """The pod that a manifest makes."""
    (found,) = documents(path)
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def service_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The container that runs the writer service."""
    containers = [*spec["initContainers"], *spec["containers"]]
    (found,) = [each for each in containers if "serve" in each.get("args", ())]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.29", "latest"])
def test_kubernetes_takes_the_manifests(path: Path, version: str) -> None:
    """Strictly: a field that the version does not know is an error."""
    known = kubernetes_validate.latest_version() if version == "latest" else version
    for each in documents(path):
        kubernetes_validate.validate(each, known, strict=True)


def test_kubernetes_refuses_what_it_does_not_know() -> None:
    """That the test above can fail."""
    (wrong,) = documents(DEPLOY / "kubernetes" / "sidecar.yaml")
    wrong["spec"]["template"]["spec"]["initContainers"][0]["restartPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_pod_ends_in_order(path: Path) -> None:
    spec = pod(path)
    service = service_of(spec)
    args = service["args"]
    parsed(args)
    drains_s = int(args[args.index("--drain-timeout") + 1])
    before_s = 60  # what docs/running/kubernetes.md leaves to agents
    if path.stem == "sidecar":
        # The kubelet runs preStop when the pod begins to end: the agent still saves then.
        assert "lifecycle" not in service
    else:
        drain = service["lifecycle"]["preStop"]["exec"]["command"]
        assert drain[:2] == ["livingai", "drain"]
        parsed(drain[1:])
        before_s = int(drain[drain.index("--timeout") + 1])
        assert before_s == drains_s
    assert spec["terminationGracePeriodSeconds"] >= before_s + drains_s + 20
    # A store that is away must not have the service restarted.
    assert service["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert service["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert args[args.index("--metrics") + 1].endswith(f":{service['ports'][0]['containerPort']}")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_journals_outlive_the_pod(path: Path) -> None:
    (manifest,) = documents(path)
    spec = pod(path)
    service = service_of(spec)
    directory = service["args"][service["args"].index("--directory") + 1]
    (mount,) = [each for each in service["volumeMounts"] if directory.startswith(each["mountPath"])]
    volumes = {each["name"]: each for each in spec["volumes"]}
    claims = manifest["spec"].get("volumeClaimTemplates", ())
    claimed = {each["metadata"]["name"]: each["spec"] for each in claims}
    if mount["name"] in claimed:
        assert claimed[mount["name"]]["accessModes"] == ["ReadWriteOncePod"]
    else:
        assert "hostPath" in volumes[mount["name"]]
    assert service["securityContext"]["readOnlyRootFilesystem"]
    assert spec["securityContext"]["runAsNonRoot"]


def test_the_sidecar_is_one() -> None:
    spec = pod(DEPLOY / "kubernetes" / "sidecar.yaml")
    assert service_of(spec)["restartPolicy"] == "Always"
    assert service_of(spec) in spec["initContainers"]
    agent, service = spec["containers"][0], service_of(spec)
    assert agent["volumeMounts"] == service["volumeMounts"]


def test_two_services_never_share_a_directory_of_a_node() -> None:
    (manifest,) = documents(DEPLOY / "kubernetes" / "daemonset.yaml")
    assert manifest["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 0


# -- containers --

DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_is_what_the_page_promises() -> None:
    lines = DOCKERFILE.splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user == "10001:10001"
    (runs,) = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
    parsed(yaml.safe_load(runs))
    commands = [line for line in lines if line.startswith(("CMD ", "ENTRYPOINT "))]
    assert all("[" in line for line in commands), "a shell would be process 1"
    health = DOCKERFILE.partition("HEALTHCHECK")[2].partition("CMD ")[2].splitlines()[0]
    shell, option, script = yaml.safe_load(health)
    assert (shell, option) == ("sh", "-c")
    parsed(script.partition(";")[0].split()[1:])
    pods = [pod(path)["securityContext"]["runAsUser"] for path in MANIFESTS]
    assert {*pods} == {int(user.partition(":")[0])}


def test_a_container_is_healthy_while_its_service_answers(state_dir: Place) -> None:
    """A record in quarantine is trouble, and no reason to call the container unhealthy."""
    health = DOCKERFILE.partition("HEALTHCHECK")[2].partition("CMD ")[2].splitlines()[0]
    *shell, script = yaml.safe_load(health)
    script = script.replace(f"{STATE}/state", str(state_dir.directory.path))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def healthy() -> bool:
        done = subprocess.run(
            [*shell, script], env=environment(PATH=path), capture_output=True, text=True,
            check=False, timeout=patience(60),
        )  # fmt: skip
        assert "livingai" in done.stdout + done.stderr, done
        return done.returncode == 0

    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    assert healthy()
    with refusing(state_dir.database):
        agent.call(acts.save, "run-1", 1)
        assert "quarantined" in agent.settled(2)
    assert command(state_dir, "status", state_dir.directory.path).returncode == 1
    assert healthy()
    assert agent.leave() == 0
    state_dir.empty()
    assert not healthy(), "there is no service any more"


def test_the_services_of_the_compose_file() -> None:
    made = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    services = made["services"]
    assert set(services) == {"postgres", "service", "agent"}
    for name in ("service", "agent"):
        assert services[name]["read_only"]
        assert "state:/var/lib/livingai" in services[name]["volumes"]
        for volume in services[name]["volumes"]:
            source = volume.partition(":")[0]
            assert source in made["volumes"] or (DEPLOY / "docker" / source).is_file()
    build = services["service"]["build"]
    assert (DEPLOY / "docker" / build["context"] / build["dockerfile"]).is_file()
    grace = int(services["service"]["stop_grace_period"].removesuffix("s"))
    runs = yaml.safe_load(DOCKERFILE.partition("\nCMD ")[2])
    assert grace > int(runs[runs.index("--drain-timeout") + 1])


def test_docker_builds_the_image() -> None:
    docker = tool("docker")
    if subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker daemon answers")
    told = subprocess.run(
        [docker, "build", "-q", "-f", "deploy/docker/Dockerfile", "."], cwd=ROOT,
        capture_output=True, text=True, timeout=patience(600), check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
