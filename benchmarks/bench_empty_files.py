"""A source of empty files through `jobs.annotate` to its end: rows a second, what each item becomes, and memory.

    python -m benchmarks.bench_empty_files [--files N] [--folder PATH] [-- further arguments of jobs.annotate]

The files are links to a few empty ones, a thousand a folder. The command runs as a user runs it, with the recipe `tiny`
and its real engines, in a process of its own; memory is the driver's own at its peak, and that of all processes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.made_catalog import link_all
from benchmarks.watched import Tree

FILES_A_FOLDER = 1000


def make_files(folder: Path, files: int) -> None:
    """Empty files of media names."""
    empty = folder.with_name("empty")
    empty.write_bytes(b"")
    for first in range(0, files, FILES_A_FOLDER):
        names = [f"{number:07d}.mp4" for number in range(first, min(first + FILES_A_FOLDER, files))]
        link_all(folder / f"{first // FILES_A_FOLDER:04d}", empty, names)


def peak_mib(pid: int) -> float:
    """The most that a process has held so far; 0 once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def main(argv: list[str]) -> None:
    """Makes the files, runs the command, prints what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", help="where the files of the benchmark are made, for its time")
    parser.add_argument("further", nargs="*")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-empty-", dir=options.folder) as folder:
        make_files(Path(folder) / "videos", options.files)
        output = f"{folder}/output"
        command = [sys.executable, "-m", "jobs.annotate", "--source", f"{folder}/videos", "--output", output]
        began = time.perf_counter()
        with subprocess.Popen([*command, "--recipe", "tiny", *options.further]) as process:
            tree, driver, everything = Tree(process.pid), 0.0, 0.0
            while process.poll() is None:
                everything = max(everything, tree.memory_bytes() / 2**20)
                driver = max(driver, peak_mib(process.pid))
                time.sleep(1.0)
        seconds = time.perf_counter() - began
        (report,) = Path(output).glob("runs/*/report.json")
        told = json.loads(report.read_text())
        print(
            f"{options.files:,} empty files: exit code {process.returncode} after {seconds:.0f} s, "
            f"{told['seconds']:.0f} s of it the run, {tree.cpu_seconds:.0f} CPU s of all processes; "
            f"{told['items_run'] / told['seconds']:.0f} rows/s; "
            f"driver's peak {driver:.0f} MiB, all {everything:.0f} MiB"
        )
        for stage, counts in told["stages"].items():
            print(f"  {stage:<15} {counts}")


if __name__ == "__main__":
    main(sys.argv[1:])
