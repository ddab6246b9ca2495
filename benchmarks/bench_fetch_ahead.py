"""What fetching ahead over several blocks is worth: `python -m benchmarks.bench_fetch_ahead`.

Blocks of clips go through the decode stage while each fetch takes its time; the decoding itself is real. Printed is the
share of the pace at which clips are decoded that are there already.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from actors.decode import DecodeStage
from actors.decode_config import DecodeConfig
from records.items import CatalogItem, Row
from storage.fetched import FetchedMedia
from storage.in_flight import InFlightConfig
from tests.clips import clip_bytes

BLOCK_ROWS, BLOCKS = 8, 6
FETCH_SECONDS = (0.1, 0.4)
CALLS = (1, 2, 4)
CONFIG = DecodeConfig(max_frames=8, max_frame_pixels=112 * 112)


def clips_a_second(data: bytes, *, fetch_seconds: float, calls: int, ahead: int) -> float:
    """The pace of the stage, its child already started.

    Args:
        data: The clip.
        fetch_seconds: What each fetch takes.
        calls: Blocks at a time.
        ahead: Clips on their way at a time, over all blocks.
    """

    def fetch(item: CatalogItem) -> FetchedMedia:
        time.sleep(fetch_seconds)
        return FetchedMedia.of_bytes(data)

    stage = DecodeStage(CONFIG, fetch, in_flight=InFlightConfig(max_bytes=ahead * len(data)))
    item = CatalogItem(video_id="a", version=1, uri="", size_bytes=len(data), etag="")
    block = [Row(item=replace(item, video_id=str(number))) for number in range(BLOCK_ROWS)]
    every = [True] * BLOCK_ROWS
    stage(block[:1], [True], [True])
    with ThreadPoolExecutor(calls) as pool:
        started = time.monotonic()
        list(pool.map(lambda number: stage(block, every, every), range(BLOCKS)))
        seconds = time.monotonic() - started
    stage.close()
    return BLOCKS * BLOCK_ROWS / seconds


def main() -> None:
    """Prints the table."""
    data = clip_bytes(seconds=1.0, width=160, height=120)
    limit = clips_a_second(data, fetch_seconds=0.0, calls=1, ahead=64)
    print(f"{limit:.1f} clips a second where all are there; shares of that:")
    print(f"{'fetch':>8} {'4 ahead, 1 block':>18}" + "".join(f"{f'bytes, {calls} blocks':>18}" for calls in CALLS))
    for fetch_seconds in FETCH_SECONDS:
        before = clips_a_second(data, fetch_seconds=fetch_seconds, calls=1, ahead=4) / limit
        shares = [clips_a_second(data, fetch_seconds=fetch_seconds, calls=calls, ahead=64) / limit for calls in CALLS]
        print(
            f"{fetch_seconds * 1000:>5.0f} ms {before:>18.0%}" + "".join(f"{share:>18.0%}" for share in shares),
            flush=True,
        )


if __name__ == "__main__":
    main()
