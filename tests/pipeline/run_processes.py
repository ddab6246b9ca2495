"""The processes of a run, by what they do: whatever Ray started for it, and what its workers started."""

import contextlib
import re

import psutil

GATE, READER, SANDBOX = "Gate", "reader", "sandbox"

_TITLE = re.compile(r"ray::(?:MapWorker\(MapBatches\((?P<stage>\w+)\)\)|MapBatches\(<lambda>\)|(?P<other>\w+))")


def role_of(title: str) -> str | None:
    """What a process of such a title does for a run; None for one that does nothing for it.

    Ray's agents belong to its node, which ends with them. A worker that is just starting has a role of its own.
    """
    if "actors.sandbox_child" in title:
        return SANDBOX
    found = _TITLE.match(title)
    if found is None or title.startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent")):
        return None
    role = found["stage"] or found["other"] or READER
    return f"{role} starts" if title.rstrip().endswith(".__init__") else role


def run_processes() -> list[tuple[str, psutil.Process]]:
    """Those that this process, or one that it started, has started: each with its role."""
    found: list[tuple[str, psutil.Process]] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            role = role_of(" ".join(process.cmdline()))
            if role is not None:
                found.append((role, process))
    return found
