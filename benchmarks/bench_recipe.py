"""A recipe as it is, all its stages sharing one GPU, with models of the published sizes and no weights.

    python -m benchmarks.bench_recipe --source FOLDER [--recipe paper] [--copies 8] [--plan 32] [--keep FOLDER]

Shows whether the shares of a recipe fit on the GPU, what each process takes of it, and how many rows a second come out
when every answer is as long as it may be; with `--plan`, what `jobs.plan` says before and how right it was. Needs an
NVIDIA GPU of 80 GB; says so where there is none.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.full_size import DEFAULT_FOLDER, ensure_full_size

INTERVAL_SECONDS = 0.5
MODELS = {
    "caption": "qwen2_5_vl",
    "describe_audio": "qwen2_audio",
    "transcribe": "whisper",
    "tag_audio": "ast",
    "embed": "bert",
}
ENGINES = ("caption", "describe_audio")


class GpuWatch:
    """Samples the GPU's memory, by process, until it is closed."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        """MiB, by the name of the process."""
        self.total_mib = 0
        self.busy: list[int] = []
        """Percent of the time in which a kernel ran, by sample."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def print(self) -> None:
        """What the GPU held at most, what of it each process did, and how busy it was."""
        print(f"GPU memory at most {self.total_mib / 1024:.1f} GiB; by process:")
        for name, mib in sorted(self.peaks.items(), key=lambda item: -item[1]):
            print(f"  {mib / 1024:6.1f} GiB  {name}")
        if self.busy:
            share = sum(self.busy) / len(self.busy)
            print(f"a kernel ran in {share:.0f} % of the time, at most {max(self.busy)} % of a sample", flush=True)

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            for pid, mib in _query("compute-apps=pid,used_memory"):
                name = _name(pid)
                self.peaks[name] = max(self.peaks.get(name, 0), mib)
            for used, busy in _query("gpu=memory.used,utilization.gpu"):
                self.total_mib = max(self.total_mib, used)
                self.busy.append(busy)


def _query(what: str) -> Iterator[tuple[int, int]]:
    command = ["nvidia-smi", f"--query-{what}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        first, second = line.split(",")
        if first.strip().isdigit() and second.strip().isdigit():
            yield int(first), int(second)


def _name(pid: int) -> str:
    """The process and, of an engine's own process, the worker that started it."""
    try:
        process = psutil.Process(pid)
        parent = process.parent()
        names = [process.cmdline() or [process.name()], parent.cmdline() if parent is not None else [""]]
    except psutil.Error:
        return f"{pid} (gone)"
    own, above = (" ".join(name)[:60] for name in names)
    return f"{own} of {above}" if "EngineCore" in own else own


def main() -> int:
    """Builds the models, runs the job and prints what the GPU held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a folder of videos; by default the demo's clips")
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--copies", type=int, default=8, help="how often each file of the source is an item")
    parser.add_argument("--models", type=Path, default=DEFAULT_FOLDER, help="where the models are kept")
    parser.add_argument(
        "--plan", type=int, metavar="ITEMS", help="plan first, on a sample of so many, and run the plan"
    )
    parser.add_argument("--prices", default="cluster/prices.example.yaml", help="the plan's price table")
    parser.add_argument("--keep", type=Path, help="a folder for the output, which is kept")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for jobs.annotate")
    arguments = parser.parse_args()
    if shutil.which("nvidia-smi") is None:
        print("bench_recipe: needs an NVIDIA GPU of 80 GB, and there is no nvidia-smi here")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        source = _copies(arguments.source, arguments.copies, Path(scratch))
        started = time.perf_counter()
        settings = [f"{key}={ensure_full_size(name, arguments.models)}" for key, name in _model_keys().items()]
        print(f"models: {time.perf_counter() - started:.0f} s", flush=True)
        settings += [f"{stage}.engine.engine_args.load_format=dummy" for stage in ENGINES]
        # Random words fail Whisper's thresholds, each of which would decode a chunk five times more.
        settings += ["transcribe.temperatures=[0.0]", *arguments.set]
        output = arguments.keep or Path(scratch) / "output"
        chosen = ["--source", str(source), "--output", str(output), "--recipe", arguments.recipe]
        chosen += [part for setting in settings for part in ("--set", setting)]
        if arguments.plan:
            sample = ["--sample", str(arguments.plan), "--prices", arguments.prices, "--cluster", "connected"]
            _watched("jobs.plan", [*chosen, *sample])
            chosen += [part for plan in output.glob("plans/*.yaml") for part in ("--plan", str(plan))]
        code = _watched("jobs.annotate", chosen)
        for report in sorted(output.glob("runs/*/report.md")):
            print(report.read_text())
    return code


def _watched(module: str, arguments: list[str]) -> int:
    """Runs a command and prints what the GPU held meanwhile; its exit code."""
    watch = GpuWatch()
    started = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    code = subprocess.run(command, check=False, env=os.environ | {"HF_HUB_OFFLINE": "1"}).returncode
    watch.close()
    print(f"{module}: exit code {code} after {time.perf_counter() - started:.0f} s")
    watch.print()
    return code


def _model_keys() -> dict[str, str]:
    return {f"{stage}.{'engine.model' if stage in ENGINES else 'model'}": name for stage, name in MODELS.items()}


def _copies(source: Path | None, copies: int, scratch: Path) -> Path:
    """A folder in which each file of the source lies under so many names."""
    if source is None:
        from jobs.demo_clips import make_clips

        source = scratch / "made"
        make_clips(source)
    folder = scratch / "clips"
    folder.mkdir()
    for file in sorted(source.iterdir()):
        for copy in range(copies if file.suffix != ".csv" else 0):
            shutil.copyfile(file, folder / f"{copy:04d}-{file.name}")
    return folder


if __name__ == "__main__":
    sys.exit(main())
