"""The cache of tiny models: built once, whole or not at all, the same bytes each time."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models import tiny
from models.resolve import folder_digest
from models.tiny import TINY_MODELS, builder_revision, ensure_tiny
from records.errors import UserError
from tests.conftest import TinyModels


@pytest.mark.parametrize("name", ["whisper", "ast", "bert"])
def test_two_builds_give_the_same_bytes(name: str, tiny_models: TinyModels, tmp_path: Path) -> None:
    assert folder_digest(ensure_tiny(name, tmp_path)) == folder_digest(tiny_models(name))


def test_an_unknown_name_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'vgg'.*whisper.*bert"):
        ensure_tiny("vgg", tmp_path)


def test_every_builder_has_a_revision_of_its_own_source() -> None:
    revisions = {name: builder_revision(name) for name in TINY_MODELS}
    assert len({revisions["whisper"], revisions["ast"], revisions["bert"], revisions["qwen3_vl"]}) == 4


def test_many_at_once_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[Path] = []

    def builder(name: str) -> Callable[[Path], None]:
        def build(out: Path) -> None:
            builds.append(out)
            (out / "weights").write_text(name)

        return build

    monkeypatch.setattr(tiny, "_builder", builder)
    threads = [threading.Thread(target=ensure_tiny, args=("bert", tmp_path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert (ensure_tiny("bert", tmp_path) / "weights").read_text() == "bert"


def test_a_build_that_dies_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(out: Path) -> None:
        (out / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "_builder", lambda name: build)
    with pytest.raises(KeyboardInterrupt):
        ensure_tiny("bert", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
