"""A publish that dies at any store operation: no release is seen before it is whole, and the next run ends with the
same bytes as one that nobody disturbed."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.local_store import LocalBackend
from storage.releases import Releases
from storage.stores import Store
from tests.pipeline.publishing import SMALL_PARTS, objects, publish
from tests.pipeline.stage_maker import Maker, ids_of, publish_config

CONFIG = publish_config(part_bytes=SMALL_PARTS, row_group_rows=10, gallery_items=0)
WRITES = ("create", "replace", "delete", "start_upload", "put_piece", "finish_upload", "abort_upload")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and after it nothing is written any more."""


class Deadline:
    """Counts a folder's writes, and dies before or after one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self._at, self._after = at, after
        self.seen = 0
        for name in WRITES:
            patch.setattr(LocalBackend, name, self._wrapped(getattr(LocalBackend, name)))

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(backend: LocalBackend, path: Any, *more: Any) -> Any:  # noqa: ANN401 - any operation's
            if "leases/" in str(path):
                return original(backend, path, *more)
            self.seen += 1
            if self.seen > self._at or (self.seen == self._at and not self._after):
                raise Killed
            done = original(backend, path, *more)
            if self.seen == self._at:
                raise Killed
            return done

        return write


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """What a publish in peace leaves, and how many writes it takes."""
    uri = filled(tmp_path_factory.mktemp("peace"))
    with pytest.MonkeyPatch.context() as patch:
        counter = Deadline(patch, 10**9, after=True)
        publish(uri, "r1", CONFIG)
    return objects(uri), counter.seen


def filled(folder: Path) -> str:
    uri = str(folder / "out")
    maker = Maker(store=Store.open(uri))
    maker.fill(maker.list_items(ids_of(60)))
    return uri


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moments=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=3))
def test_a_publish_that_dies_at_any_write_ends_as_if_nothing_had_happened(
    tmp_path_factory: pytest.TempPathFactory,
    undisturbed: tuple[dict[str, bytes], int],
    moments: list[tuple[float, bool]],
) -> None:
    expected, writes = undisturbed
    uri = filled(tmp_path_factory.mktemp("killed"))
    releases = Releases(Store.open(uri))
    for share, after in moments:
        with pytest.MonkeyPatch.context() as patch:
            Deadline(patch, 1 + round(share * (writes - 1)), after=after)
            with contextlib.suppress(Killed):
                publish(uri, "r1", CONFIG)
        assert releases.latest() in (None, "r1")
        if releases.manifest("r1") is not None:
            assert {"releases/LATEST": expected["releases/LATEST"], **objects(uri)} == expected
    publish(uri, "r1", CONFIG)
    assert objects(uri) == expected
    assert objects(uri, "publishing/") == {}
    assert Store.open(uri).open_uploads("") == []
