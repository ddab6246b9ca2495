"""What decoding costs, side by side in one run: `python -m benchmarks.bench_decode [FILE …]`.

Prints CPU milliseconds a clip and ratios to this project's own decoding, and what the sandbox adds. decord is the
comparison: it is also checked for whether its frames are those that were asked for. Without files, clips are made.
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from actors.decode_clip import Decoded, DecodeRequest, decode_clip
from actors.decode_config import DecodeConfig
from actors.sandbox import Sandbox
from benchmarks.decord_reader import DecordRequest, Pictures, frames_by_decord
from records.errors import BadItemError
from records.media import Frames
from tests.actors.decode_stand_ins import array_of
from tests.clips import make_clip

ROUNDS = 3
MADE = {
    "h264 closed GOP": {"codec": "libx264", "options": {"x264-params": "keyint=20:bframes=3"}},
    "h264 open GOP": {"codec": "libx264", "options": {"x264-params": "keyint=20:min-keyint=20:open-gop=1:bframes=3"}},
    "hevc closed GOP": {"codec": "libx265", "options": {"x265-params": "keyint=20:open-gop=0:log-level=none"}},
    "hevc open GOP": {"codec": "libx265", "options": {"x265-params": "keyint=20:open-gop=1:log-level=none"}},
    "mpeg4 with B-frames": {"codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "vp9": {"codec": "libvpx-vp9", "options": {"g": "20", "deadline": "realtime", "cpu-used": "8"}},
    "av1": {"codec": "libsvtav1", "options": {"preset": "12"}},
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="clips; without any, some are made")
    files = parser.parse_args().files
    clips = {path.name: path.read_bytes() for path in files} or made_clips()
    print(
        f"{'clip':34} {'own ms':>8} {'skipping':>9} {'PyAV seq':>9} {'decord':>8} {'decord wrong':>13} {'sandbox':>8}"
    )
    sandbox = Sandbox(decode_clip, timeout_seconds=120, memory_limit_bytes=3 << 30)
    decord_sandbox = Sandbox(frames_by_decord, timeout_seconds=60, memory_limit_bytes=3 << 30)
    for name, data in clips.items():
        for fps in (2.0, 0.5):
            config = DecodeConfig(fps=fps)
            print(line(f"{name}, {fps:g}/s", data, config, sandbox, decord_sandbox), flush=True)
    sandbox.close()
    decord_sandbox.close()
    print("PyAV seq, decord, skipping: ratios to own CPU time; sandbox: ratio of wall time to decoding in this process")
    transfer()


def made_clips() -> dict[str, bytes]:
    """480p, 8 s, 30 frames a second."""
    clips = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in MADE.items():
            path = Path(folder) / "clip.mp4"
            make_clip(path, seconds=8, width=854, height=480, fps=30, **settings)  # type: ignore[arg-type]
            clips[name] = path.read_bytes()
    return clips


def line(
    name: str,
    data: bytes,
    config: DecodeConfig,
    sandbox: Sandbox[DecodeRequest, Decoded],
    decord_sandbox: Sandbox[DecordRequest, tuple[Pictures, float]],
) -> str:
    """One row of the table. decord runs in a child, since it may take its process along."""
    request = DecodeRequest(config=config, video=True, audio=False)
    skipping = DecodeRequest(config=replace(config, skip_unreferenced=True), video=True, audio=False)
    frames = decode_clip(memoryview(data), request).frames
    if frames is None:
        return f"{name:34} no frames"
    own = cpu_ms(lambda: decode_clip(memoryview(data), request))
    quick = cpu_ms(lambda: decode_clip(memoryview(data), skipping))
    sequential = cpu_ms(lambda: pyav_sequential(data, frames))
    try:
        pictures, milliseconds = decord_sandbox.run(data, (frames.pixels.shape[1:3], frames.indices))
        differences = np.abs(pictures.astype(np.int16) - frames.pixels).mean(axis=(1, 2, 3))
        wrong, ratio = f"{(differences > 0.5).sum()}/{len(frames.indices)}", f"{milliseconds / own:8.2f}"
    except BadItemError as error:
        wrong, ratio = "raises" if error.kind == "corrupt" else error.kind, f"{'':>8}"
    inside = wall_ms(lambda: decode_clip(memoryview(data), request))
    boxed = wall_ms(lambda: sandbox.run(data, request))
    return f"{name:34} {own:8.0f} {quick / own:9.2f} {sequential / own:9.2f} {ratio} {wrong:>13} {boxed / inside:8.2f}"


def pyav_sequential(data: bytes, frames: Frames) -> None:
    """The plainest loop: decode all, convert what is wanted."""
    height, width = frames.pixels.shape[1:3]
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in frames.indices:
                frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()


def transfer() -> None:
    """What it costs to bring 30 MB of frames out of the child."""
    shape = (64, 280, 560, 3)
    sandbox = Sandbox(array_of, timeout_seconds=60, memory_limit_bytes=3 << 30)
    made, carried = wall_ms(lambda: array_of(memoryview(b""), shape)), wall_ms(lambda: sandbox.run(b"", shape))
    sandbox.close()
    print(f"bringing {np.prod(shape) / 1e6:.0f} MB out of the sandbox: {carried - made:.0f} ms")
    started = time.perf_counter()
    Sandbox(decode_clip, timeout_seconds=60, memory_limit_bytes=1 << 30).close()
    print(f"starting and ending a child: {(time.perf_counter() - started) * 1000:.0f} ms")


def cpu_ms(call: Callable[[], object]) -> float:
    """Least CPU milliseconds of some rounds, all threads of this process."""
    return min(_spent(call, _cpu_seconds) for _ in range(ROUNDS))


def wall_ms(call: Callable[[], object]) -> float:
    """Least wall milliseconds of some rounds."""
    return min(_spent(call, time.perf_counter) for _ in range(ROUNDS))


def _spent(call: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return (clock() - started) * 1000


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
