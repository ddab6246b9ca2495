"""Chunks of many clips in one call of Whisper, against the batched pipeline clip by clip.

    python benchmarks/bench_transcribe.py [clips] [threads]

Both sides run on the tiny model, on the same clips, in turn; the ratio is what to look at. What it shows is the price
of calls that are not full: a GPU's gain is larger, since it idles in them.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faster_whisper import BatchedInferencePipeline, WhisperModel

from actors.transcribe import TranscribeConfig, TranscribeStage
from models.tiny import ensure_tiny
from records.items import CatalogItem, Row
from records.outcomes import Transcript
from tests.sounds import babble, to_audio

ROUNDS = 5


def main(clips: int = 32, threads: int = 2) -> None:
    """Prints seconds and the ratio, over rounds that alternate."""
    path = str(ensure_tiny("whisper"))
    model = WhisperModel(path, device="cpu", compute_type="float32", cpu_threads=threads)
    config = TranscribeConfig(
        model=path, device="cpu", compute_type="float32", temperatures=(0.0,), no_speech_threshold=None, batch_chunks=16
    )
    stage, pipeline = TranscribeStage(config, model=model), BatchedInferencePipeline(model)
    item = CatalogItem(video_id="a", version=1, uri="memory://a", size_bytes=1, etag="1")
    rows = [Row(item=item, audio=to_audio(babble(6 + seed % 10, seed))) for seed in range(clips)]
    ratios = []
    for _ in range(ROUNDS):
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
        assert [outcome.text for outcome in outcomes if isinstance(outcome, Transcript)] == alone
        ratios.append(one_by_one / together)
        print(
            f"{clips} clips: together {together:.2f} s, one by one {one_by_one:.2f} s, {ratios[-1]:.2f} times as fast"
        )
    print(f"median: {statistics.median(ratios):.2f} times as fast (same texts)")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
