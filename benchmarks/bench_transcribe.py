"""Chunks of many clips in one call of Whisper, against the batched pipeline clip by clip.

    python -m benchmarks.bench_transcribe [--clips 32] [--threads 2] [--rounds 5] [--gpu]

Both sides run on the same clips, in turn; the ratio is what to look at. On the tiny model it shows the price of calls
that are not full. With `--gpu` it is a large Whisper of random weights, whose texts go on for as long as they may: a
GPU idles in calls that are not full.
"""

import argparse
import statistics
import time

from faster_whisper import BatchedInferencePipeline

from actors.stage import PoolConfig
from actors.transcribe import TranscribeStage
from actors.transcribe_config import TranscribeConfig, load_whisper
from benchmarks.full_size import ensure_full_size
from models.tiny import ensure_tiny
from records.items import CatalogItem, Row
from records.outcomes import Transcript
from tests.sounds import babble, to_audio


def main() -> None:
    """Prints seconds and the ratio, over rounds that alternate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true", help="the model of the published size, on a GPU")
    arguments = parser.parse_args()
    clips = arguments.clips
    config = TranscribeConfig(
        model=str(ensure_full_size("whisper") if arguments.gpu else ensure_tiny("whisper")),
        device="cuda" if arguments.gpu else "cpu",
        compute_type="float16" if arguments.gpu else "float32",
        temperatures=(0.0,),
        no_speech_threshold=None,
        batch_chunks=16,
        pool=PoolConfig(num_cpus=arguments.threads),
    )
    model = load_whisper(config)
    stage, pipeline = TranscribeStage(config, model=model), BatchedInferencePipeline(model)
    item = CatalogItem(video_id="a", version=1, uri="memory://a", size_bytes=1, etag="1")
    rows = [Row(item=item, audio=to_audio(babble(6 + seed % 10, seed))) for seed in range(clips)]
    ratios = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        outcomes = stage(rows)
        together = time.perf_counter() - start
        start = time.perf_counter()
        alone = [
            "".join(segment.text for segment in pipeline.transcribe(row.audio.to_float(), temperature=0)[0]).strip()
            for row in rows
            if row.audio is not None
        ]
        one_by_one = time.perf_counter() - start
        # In float16 the order of sums depends on what else is in a call.
        assert arguments.gpu or [outcome.text for outcome in outcomes if isinstance(outcome, Transcript)] == alone
        ratios.append(one_by_one / together)
        print(
            f"{clips} clips: together {together:.2f} s, one by one {one_by_one:.2f} s, {ratios[-1]:.2f} times as fast"
        )
    print(f"median: {statistics.median(ratios):.2f} times as fast{'' if arguments.gpu else ' (same texts)'}")


if __name__ == "__main__":
    main()
