"""How much faster an engine is when several calls feed it than when each call waits for the one before.

    python -m benchmarks.bench_caption [--clips 96] [--rows 8] [--calls 4] [--rounds 3] [--gpu]

On the tiny Qwen2.5-VL, or with `--gpu` on one of 7 billion random parameters; both ways caption the same clips in turns
in one process, and only their ratio means something.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from actors.caption import CaptionConfig, CaptionStage
from actors.vllm_config import EngineConfig, SamplingConfig
from benchmarks.full_size import ensure_full_size
from models.tiny import ensure_tiny
from records.items import CatalogItem, Row
from records.media import Frames


def main() -> None:
    """Runs both ways in turns and prints the ratio of their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--rows", type=int, default=8, help="rows a call")
    parser.add_argument("--calls", type=int, default=4, help="calls at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu", action="store_true", help="the model of the published size, on a GPU of 40 GB or more")
    arguments = parser.parse_args()
    stage = CaptionStage(_gpu_config() if arguments.gpu else _config())
    rows = [_row(seed, side=448 if arguments.gpu else 112) for seed in range(arguments.clips)]
    batches = [rows[start : start + arguments.rows] for start in range(0, len(rows), arguments.rows)]
    try:
        stage(rows[: arguments.rows])
        ratios = [_ratio(stage, batches, arguments.calls) for _ in range(arguments.rounds)]
    finally:
        stage.close()
    print(f"{len(rows)} clips, {arguments.rows} a call: {arguments.calls} calls at once are", end=" ")
    print(f"{statistics.median(ratios):.2f} times as fast as one at a time ({min(ratios):.2f} to {max(ratios):.2f})")


def _ratio(stage: CaptionStage, batches: list[list[Row]], calls: int) -> float:
    start = time.perf_counter()
    for batch in batches:
        stage(batch)
    middle = time.perf_counter()
    with ThreadPoolExecutor(calls) as threads:
        list(threads.map(stage, batches))
    return (middle - start) / (time.perf_counter() - middle)


def _config() -> CaptionConfig:
    engine_args = {"enforce_eager": True, "kv_cache_memory_bytes": 512 << 20, "max_num_seqs": 32}
    model = str(ensure_tiny("qwen2_5_vl"))
    engine = EngineConfig(model=model, dtype="float32", max_model_len=4096, engine_args=engine_args)
    return CaptionConfig(engine=engine, sampling=SamplingConfig(max_tokens=96))


def _gpu_config() -> CaptionConfig:
    """No answer ends by itself: each has as many tokens as it may."""
    engine_args = {"load_format": "dummy", "max_num_seqs": 64, "gpu_memory_utilization": 0.6}
    model = str(ensure_full_size("qwen2_5_vl"))
    engine = EngineConfig(model=model, dtype="bfloat16", max_model_len=8192, engine_args=engine_args)
    return CaptionConfig(engine=engine, sampling=SamplingConfig(max_tokens=256))


def _row(seed: int, side: int) -> Row:
    """Noise: every clip gets an answer of its own, and of its own length."""
    count, fps = 8, 2.0
    frames = Frames(
        pixels=np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        times_seconds=tuple(index / fps for index in range(count)),
        indices=tuple(range(count)),
        source_fps=fps,
        source_frames=count,
        duration_seconds=count / fps,
    )
    return Row(item=CatalogItem(video_id=str(seed), version=1, uri="", size_bytes=0, etag=""), frames=frames)


if __name__ == "__main__":
    main()
