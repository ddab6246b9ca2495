"""The tree keeps its own rules: imports go one way, files stay short, and nothing names a machine or an index."""

import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "records": set[str](),
    "storage": {"records"},
    "cluster": {"records"},
    "models": {"records"},
    "actors": {"records", "storage", "cluster", "models"},
    "recsys": {"records", "storage", "cluster"},
    "pipeline": {"records", "storage", "cluster", "models", "actors", "recsys"},
    "jobs": {"records", "storage", "cluster", "models", "actors", "recsys", "pipeline"},
}
"""Package to the project's packages below it. `models` stands beside `storage`; `recsys` never sees a stage."""

MAX_LINES = 300
PRINTS = ("jobs", "benchmarks")
# Split, so that this file does not break its own rule.
HOSTS = re.compile("|".join(("py" + r"pi\.org", "files.python" + "hosted", "index" + "-url", "find" + "-links=")))
REASON = re.compile(r"# noqa: [A-Z]+\d+(?:, [A-Z]+\d+)* - \S")
MACHINE = re.compile(r"(?<![\w.$}])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "home" + "/[a-z]")) + r")(?:/|\b)")


def tracked(*endings: str) -> list[Path]:
    """The repository's files with these endings: what git knows, or what it would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    paths = [ROOT / name for name in listed.split("\0") if name.endswith(endings)]
    return sorted(path for path in paths if path.is_file())


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(source: str, package: str) -> set[str]:
    """Full names of the modules that a file of `package` imports, anywhere in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules.add(f"{package}.{base}" if node.level else base)
            if not base:
                modules |= {f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            modules |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return modules


def breaches(source: str, package: str) -> list[str]:
    """The imports of a file of `package` that go up, or aside."""
    wrong = (set(MAY_IMPORT) | {"tests", "benchmarks"}) - MAY_IMPORT[package] - {package}
    modules = imported(source, package)
    found = [module for module in modules if module.partition(".")[0] in wrong]
    if package in ("records", "storage", "cluster", "models", "actors", "recsys"):
        found += [module for module in modules if module.partition(".")[0] == "ray"]
    return sorted(found)


def prints(source: str) -> list[int]:
    """The lines that call print()."""
    nodes = ast.walk(ast.parse(source))
    return [
        n.lineno for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
    ]


def bare_exemptions(source: str) -> list[int]:
    """The lines whose comment silences ruff without a code or without a reason."""
    if "noqa" not in source.lower():
        return []
    comments = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    return [t.start[0] for t in comments if "noqa" in t.string.lower() and not REASON.search(t.string)]


PYTHON_FILES = tracked(".py")
TEXT_FILES = PYTHON_FILES + tracked(
    ".txt", ".toml", ".md", ".yaml", ".yml", ".json", ".sh", ".gitignore", "Makefile", "Dockerfile", ".ci/run"
)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    found = {named(path): breaches(path.read_text(), package) for path in (ROOT / package).rglob("*.py")}
    assert {path: modules for path, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("records", "from storage.stores import Store"),
        ("storage", "import actors.stage"),
        ("actors", "import ray"),
        ("actors", "def f():\n    from ray.data import Dataset"),
        ("actors", "from pipeline import plan"),
        ("models", "from storage import stores"),
        ("recsys", "from actors.embed import Embed"),
        ("recsys", "import importlib\nimportlib.import_module('actors.embed')"),
        ("pipeline", "from jobs.annotate import main"),
        ("jobs", "from tests.clips import make_clip"),
    ],
)
def test_a_wrong_import_is_seen(package: str, source: str) -> None:
    assert breaches(source, package)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("records", "from records.media import Audio"),
        ("records", "from .media import Audio"),
        ("actors", "from storage.fetch import fetch\nfrom models.resolve import resolve_model\nimport rayleigh"),
        ("pipeline", "import ray.data\nfrom actors.stage import Stage"),
        ("jobs", "from pipeline.plan import plan"),
    ],
)
def test_a_right_import_is_let_through(package: str, source: str) -> None:
    assert breaches(source, package) == []


def test_every_package_is_known() -> None:
    """A new folder of code must take its place in the layers."""
    folders = {named(path).partition("/")[0] for path in PYTHON_FILES if path.parent != ROOT}
    assert folders <= set(MAY_IMPORT) | {"tests", "benchmarks"}


def test_files_stay_short() -> None:
    lengths = {named(path): len(path.read_text().splitlines()) for path in PYTHON_FILES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_only_entry_points_print() -> None:
    found = {named(path): prints(path.read_text()) for path in PYTHON_FILES if not named(path).startswith(PRINTS)}
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert prints("def f():\n    print('x')") == [2]


def test_every_exemption_carries_its_reason() -> None:
    found = {named(path): bare_exemptions(path.read_text()) for path in PYTHON_FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("# noqa: ANN401 - any value", False),
        ("# type: ignore[misc]  # noqa: ANN001, ANN002 - passed on", False),
        ("# fmt: skip", False),
        ("# noqa: ANN401", True),
        ("# noqa: ANN401  # any value", True),
        ("# noqa: ANN401 any value", True),
        ("# noqa", True),
        ("# ruff: noqa", True),
    ],
)
def test_a_bare_exemption_is_seen(comment: str, bare: bool) -> None:
    assert bare_exemptions(f"x = '# noqa'\ny = 1  {comment}\n") == ([2] if bare else [])


@pytest.mark.parametrize(
    ("rule", "example"), [(HOSTS, "https://py" + "pi.org/simple"), (MACHINE, "see /wo" + "rk/main")]
)
def test_no_file_names_an_index_or_a_machine(rule: re.Pattern[str], example: str) -> None:
    assert rule.search(example)
    found = {named(path): [match.group() for match in rule.finditer(path.read_text())] for path in TEXT_FILES}
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_nothing_large_or_generated_is_tracked() -> None:
    large = {named(path): path.stat().st_size for path in tracked("") if path.stat().st_size > 100_000}
    media = [
        named(path) for path in tracked(".mp4", ".mkv", ".mov", ".avi", ".flac", ".wav", ".safetensors", ".bin", ".pt")
    ]
    assert (large, media) == ({}, [])
