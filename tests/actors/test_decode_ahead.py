"""Fetching ahead of decoding: overlapped, in the order of arrival, within a budget of bytes, and never stuck."""

import dataclasses
import os
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from actors.decode import Decoded, DecodeStage
from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule
from records.errors import BadItemError, Failure, FailureKind
from records.items import CatalogItem, Row
from storage.fetched import FetchedMedia
from storage.in_flight import InFlightConfig
from tests.clips import clip_bytes

SMALL = FrameSizeRule(min_pixels=28 * 28, max_pixels=112 * 112)
CONFIG = DecodeConfig(frame_size=SMALL, timeout_seconds=15.0, memory_limit_bytes=400 << 20)
media = FetchedMedia.of_bytes


def row(video_id: str, size_bytes: int = 1) -> Row:
    return Row(item=CatalogItem(video_id=video_id, version=1, uri=video_id, size_bytes=size_bytes, etag=""))


def kinds(outcomes: list[Decoded | Failure]) -> list[str]:
    return [outcome.kind if isinstance(outcome, Failure) else "good" for outcome in outcomes]


@pytest.fixture(scope="module")
def clips() -> Mapping[str, bytes]:
    return {"both": clip_bytes(seconds=2.0), "silent": clip_bytes(seconds=1.0, audio=False), "text": b"no video" * 100}


def test_the_next_clips_are_fetched_while_one_waits_for_its_bytes(clips: Mapping[str, bytes]) -> None:
    together = threading.Barrier(3, timeout=20)

    def fetch(item: CatalogItem) -> FetchedMedia:
        together.wait()
        return media(clips["silent"])

    stage = DecodeStage(CONFIG, fetch)
    try:
        assert kinds(stage([row(str(number)) for number in range(6)], [True] * 6, [True] * 6)) == ["good"] * 6
    finally:
        stage.close()


def test_a_slow_clip_holds_up_no_clip_behind_it(clips: Mapping[str, bytes]) -> None:
    others = threading.Semaphore(0)

    def fetch(item: CatalogItem) -> FetchedMedia:
        if item.video_id == "slow":
            for _ in range(3):
                assert others.acquire(timeout=20), "the others wait for it"
        return media(clips["silent"])

    class Noted(DecodeStage):
        def _decode(self, *arguments: Any) -> Decoded | Failure:  # noqa: ANN401 - passed on
            others.release()
            return super()._decode(*arguments)

    stage = Noted(CONFIG, fetch)
    try:
        assert kinds(stage([row(name) for name in ("slow", "a", "b", "c")], [True] * 4, [True] * 4)) == ["good"] * 4
    finally:
        stage.close()


@pytest.mark.parametrize(("max_bytes", "most"), [(250, 2), (100, 1), (10, 1), (10_000, 8)])
def test_bytes_ahead_keep_to_the_budget_and_a_larger_clip_goes_alone(
    clips: Mapping[str, bytes], max_bytes: int, most: int
) -> None:
    lock, there, peaks = threading.Lock(), [0], [0]

    class Counted(FetchedMedia):
        def close(self) -> None:
            if self._descriptor is not None:
                with lock:
                    there[0] -= 1
            super().close()

    def fetch(item: CatalogItem) -> FetchedMedia:
        with lock:
            there[0] += 1
            peaks.append(there[0])
        counted = Counted.empty(100)
        counted.write(clips["silent"][:100], 0)
        return counted

    stage = DecodeStage(CONFIG, fetch, in_flight=InFlightConfig(max_bytes=max_bytes))
    try:
        for _ in range(2):
            outcomes = stage([row(str(number), size_bytes=100) for number in range(8)], [True] * 8, [True] * 8)
            assert kinds(outcomes) == ["corrupt"] * 8
    finally:
        stage.close()
    assert max(peaks) <= most
    assert there == [0]
    assert stage._budget.reserved_bytes == 0


def test_calls_that_share_a_small_budget_all_end(clips: Mapping[str, bytes]) -> None:
    data = clips["silent"]
    stage = DecodeStage(
        dataclasses.replace(CONFIG, processes=2),
        lambda item: media(data),
        in_flight=InFlightConfig(max_bytes=len(data) * 3 // 2, max_objects=2),
    )
    results: dict[int, list[str]] = {}

    def call(number: int) -> None:
        rows = [row(f"{number}-{index}", size_bytes=len(data) * (3 if index == 1 else 1)) for index in range(3)]
        results[number] = kinds(stage(rows, [True] * 3, [False] * 3))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    stage.close()
    assert results == {number: ["good"] * 3 for number in range(6)}
    assert stage._budget.reserved_bytes == 0


def test_a_file_that_changes_while_it_is_decoded_is_changed_whatever_came_of_it(clips: Mapping[str, bytes]) -> None:
    def overwritten() -> None:
        raise BadItemError(FailureKind.CHANGED, "written to meanwhile")

    def fetch(item: CatalogItem) -> FetchedMedia:
        there = media(clips[item.video_id])
        return FetchedMedia(os.dup(there.descriptor), there.size_bytes, verify=overwritten)

    stage = DecodeStage(CONFIG, fetch)
    try:
        assert kinds(stage([row("both"), row("text")], [True] * 2, [True] * 2)) == [FailureKind.CHANGED] * 2
    finally:
        stage.close()
