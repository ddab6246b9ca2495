"""The image: Ray, CUDA and Python are the lock's, what it installs is whole, and no file holds a secret."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.cuda_12 import CUBLAS
from tests.cluster.files import ANYSCALE, AWS, CLUSTER, DOCKERFILE, KUBERAY, ROOT, load, locked, pods
from tests.test_layers import tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, argument) for name, _, argument in (line.partition(" ") for line in joined.splitlines())]


def test_ray_python_and_cuda_of_the_image_are_the_locks() -> None:
    arguments = dict(argument.split("=") for name, argument in instructions() if name == "ARG")
    (base,) = [argument for name, argument in instructions() if name == "FROM"]
    found = re.fullmatch(r"rayproject/ray:\$\{RAY_VERSION\}-extra-py3(\d+)-cu(\d+)", base)
    assert found, base
    assert arguments["RAY_VERSION"] == locked("ray")
    assert (3, int(found[1])) == (3, 11)  # `make lock` compiles for it
    assert found[2] == "".join(locked("nvidia-cuda-runtime").split(".")[:2])  # what torch brings: 13.0.96 is cu130


def test_the_lock_holds_what_ctranslate2_opens_at_run_time() -> None:
    """Its wheel names no package for the CUDA libraries that it opens; torch's are of another CUDA."""
    assert version("ctranslate2") == locked("ctranslate2")
    (library,) = [path for path in files("ctranslate2") or () if path.name.startswith("libctranslate2")]
    opened = set(re.findall(rb"\0(lib(?:cu|nv)\w+\.so\.\d+)\0", Path(library.locate()).read_bytes()))
    assert opened - {b"libcuda.so.1"} == {b"libcublas.so.12"}  # the first is the driver's
    assert locked("nvidia-cublas-cu12").startswith("12.")
    assert locked("nvidia-cuda-nvrtc-cu12").startswith("12.")
    assert CUBLAS == ("libnvrtc.so.12", "libcublasLt.so.12", "libcublas.so.12")


def test_the_lock_is_installed_as_it_is() -> None:
    runs = [argument for name, argument in instructions() if name == "RUN"]
    assert re.match(r"uv pip install --system --no-cache --no-deps --requirement /tmp/gpu.txt$", runs[0])
    assert "--no-deps /tmp/reelscribe" in runs[1]


def test_what_is_copied_is_the_project_and_nothing_else() -> None:
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert let_in == {*PACKAGES, "pyproject.toml", PROJECT["project"]["readme"], "requirements/gpu.txt"}
    copied = [argument.split()[-2] for name, argument in instructions() if name == "COPY"]
    assert copied == ["requirements/gpu.txt", "."]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the image's Python gets the project: built as the image builds it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in (*in_packages(), "pyproject.toml", PROJECT["project"]["readme"]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=source, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site"


def in_packages() -> set[str]:
    """The repository's files that lie in a package."""
    names = {path.relative_to(ROOT) for path in tracked("")}
    return {name.as_posix() for name in names if name.parts[0] in PACKAGES}


def test_what_is_installed_has_every_file_of_the_packages(installed: Path) -> None:
    """Files of deployment are data of nobody: they may stay behind."""
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    files = {name for name in files if not name.partition("/")[0].endswith(".dist-info")}
    assert {name for name in in_packages() - files if not _is_deployment(name)} == set()
    assert files <= in_packages()


def test_the_main_command_starts_where_only_that_is_installed(installed: Path, tmp_path: Path) -> None:
    """The image's build ends with this, without a GPU."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.annotate", "--help"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "python -m jobs.annotate" in done.stdout


def _is_deployment(name: str) -> bool:
    return name.startswith("cluster/") and not name.endswith(".py")


def images() -> dict[str, set[str]]:
    """File to the images in which the project's code runs."""
    found = {
        path.name: {container["image"] for pod in pods(path).values() for container in pod["containers"]}
        for path in KUBERAY
    }
    return {**found, "anyscale": {load(ANYSCALE)["image_uri"]}, "aws": {load(AWS)["docker"]["image"]}}


def test_every_file_runs_the_same_image_and_the_dockerfile_says_how_to_build_it() -> None:
    version = PROJECT["project"]["version"]
    assert {image for one in images().values() for image in one} == {f"registry.example.com/reelscribe:{version}"}
    assert f"--file cluster/Dockerfile --tag registry.example.com/reelscribe:{version} ." in DOCKERFILE.read_text()


SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


def secrets_given(value: Any) -> list[str]:  # noqa: ANN401 - any part of a file
    """Names of secrets that have a value in a file instead of a reference."""
    found: list[str] = []
    if isinstance(value, str):
        found += [name for name in re.findall(r"--env (\w+)=", value) if SECRET.search(name)]
    elif isinstance(value, list):
        found += [name for one in value for name in secrets_given(one)]
    elif isinstance(value, dict):
        if "value" in value and SECRET.search(str(value.get("name"))):
            found.append(str(value["name"]))
        found += [name for name, one in value.items() if SECRET.search(name) and name.isupper() and one]
        found += [name for one in value.values() for name in secrets_given(one)]
    return found


def test_no_file_holds_a_secret() -> None:
    for path in (*KUBERAY, ANYSCALE, AWS):
        assert secrets_given(load(path)) == []
    for path in KUBERAY:
        for pod in pods(path).values():
            (source,) = pod["containers"][0]["envFrom"]
            assert source == {"secretRef": {"name": "reelscribe-credentials", "optional": True}}


@pytest.mark.parametrize(
    "text",
    [
        "env: [{name: HF_TOKEN, value: hf_x}]",
        "env_vars: {AWS_SECRET_ACCESS_KEY: x}",
        "docker: {run_options: [--env HF_TOKEN=hf_x]}",
    ],
)
def test_a_secret_is_seen(text: str) -> None:
    assert secrets_given(yaml.safe_load(text))
