"""A model's name is pinned to its contents: by digest for a folder, by commit for the hub."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from models.resolve import folder_digest, resolve_model
from records.errors import UserError

COMMIT = "66285546d2b821cf421d4f5eb2576359d3770cd3"
OTHER_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubHandler(BaseHTTPRequestHandler):
    """The hub's answer to "which commit": one repository with the branch `main` and the tag `v2`."""

    def do_GET(self) -> None:
        commits = {
            "/api/models/owner/name": COMMIT,
            "/api/models/owner/name/revision/main": COMMIT,
            "/api/models/owner/name/revision/v2": OTHER_COMMIT,
        }
        if self.path in commits:
            self._answer(200, {"id": "owner/name", "sha": commits[self.path]}, {})
        elif self.path.startswith("/api/models/owner/name/revision/"):
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        elif self.path.startswith("/api/models/owner/busy"):
            self._answer(503, {"error": "busy"}, {})
        else:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def _answer(self, status: int, body: dict[str, str], headers: dict[str, str]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(payload))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HfApi]:
    """The real client against a hub on loopback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token=False)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    return folder


def fill_cache(cache_dir: Path, commit: str) -> None:
    """Lays out the hub's cache as its documentation of 'refs' and 'snapshots' describes it."""
    repository = cache_dir / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")


def test_a_folder_is_loaded_from_its_path_and_named_by_its_contents(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = resolve_model(str(weights))
    assert (model.path, model.revision) == (str(weights), None)
    assert len(model.commit) == 40
    monkeypatch.chdir(weights.parent)
    relative = resolve_model("weights")
    assert (relative.name, relative.path, relative.commit) == ("weights", str(weights), model.commit)


def test_digest_is_the_same_wherever_and_whenever_the_files_lie(weights: Path, tmp_path: Path) -> None:
    before = folder_digest(weights)
    copy = shutil.copytree(weights, tmp_path / "copy")
    os.utime(copy / "config.json", (1, 1))
    (copy / ".cache").mkdir()
    (copy / ".cache" / "download.lock").write_text("x")
    linked = tmp_path / "linked"
    (linked / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/model.safetensors"):
        (linked / name).symlink_to(weights / name)
    assert folder_digest(copy) == folder_digest(linked) == before


def test_digest_counts_every_byte_and_every_name(weights: Path) -> None:
    seen = {folder_digest(weights)}
    model = weights / "sub" / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    seen.add(folder_digest(weights))
    model.rename(weights / "sub" / "model2.safetensors")
    seen.add(folder_digest(weights))
    (weights / "sub" / "model2.safetensors").rename(weights / "model2.safetensors")
    seen.add(folder_digest(weights))
    (weights / "empty").write_bytes(b"")
    seen.add(folder_digest(weights))
    assert len(seen) == 5


def test_a_tiny_model_is_a_folder_that_is_there() -> None:
    model = resolve_model("tiny:bert")
    assert model.name == "tiny:bert"
    assert (Path(model.path) / "config.json").is_file()
    assert model.commit == folder_digest(Path(model.path))


@pytest.mark.parametrize(("revision", "commit"), [(None, COMMIT), ("main", COMMIT), ("v2", OTHER_COMMIT)])
def test_the_hub_names_the_commit(hub: HfApi, tmp_path: Path, revision: str | None, commit: str) -> None:
    fill_cache(tmp_path, "f" * 40)
    model = resolve_model("owner/name", revision, api=hub, cache_dir=tmp_path)
    assert (model.path, model.commit, model.revision) == ("owner/name", commit, commit)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_the_cache_names_the_commit(tmp_path: Path, revision: str | None) -> None:
    fill_cache(tmp_path, COMMIT)
    model = resolve_model("owner/name", revision, cache_dir=tmp_path)
    assert (model.path, model.commit, model.revision) == ("owner/name", COMMIT, COMMIT)


def test_a_hub_that_is_down_or_busy_falls_back_to_the_cache(hub: HfApi, tmp_path: Path) -> None:
    fill_cache(tmp_path, COMMIT)
    nobody_listens = HfApi(endpoint="http://127.0.0.1:9", token=False)
    assert resolve_model("owner/name", api=nobody_listens, cache_dir=tmp_path).commit == COMMIT
    (tmp_path / "models--owner--name").rename(tmp_path / "models--owner--busy")
    assert resolve_model("owner/busy", api=hub, cache_dir=tmp_path).commit == COMMIT


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/name", "v9", "no revision 'v9'"),
        ("owner/other", None, "not on the hub"),
        ("owner/busy", None, "out of reach"),
        ("a/b/c", None, "no hub id"),
        ("s3://bucket/model", None, "no hub id"),
        ("./models/none", None, "no such folder"),
        ("~/no/such/folder/here", None, "no such folder"),
        ("tiny:gpt", None, "gpt"),
        ("tiny:bert", "main", "no revisions"),
    ],
)
def test_a_name_that_means_nothing_is_one_clear_line(
    hub: HfApi, tmp_path: Path, name: str, revision: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        resolve_model(name, revision, api=hub, cache_dir=tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("offline")
def test_offline_and_not_cached_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"owner/name: the model hub is out of reach.*revision 'main'") as raised:
        resolve_model("owner/name", cache_dir=tmp_path)
    assert "\n" not in str(raised.value)


def test_an_empty_or_broken_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty"):
        resolve_model(str(tmp_path))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="gone"):
        resolve_model(str(tmp_path))
