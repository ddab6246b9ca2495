"""Why an engine's process ended: vLLM tells its parent no more than that it did, and writes the reason to its output.

A worker's output lies in a file, Ray's or a redirection's, and the engine's process writes to the same one. At a
terminal there is nothing to read back, and the reason stands above.
"""

import os
import re
import stat
from pathlib import Path

_MOST_BYTES = 1 << 20
_HEAD = rb"^\((?:EngineCore|VllmWorker|Worker)[^)]*\)(?: ERROR [^\]]*\])? "
_REASON = re.compile(_HEAD + rb"((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b[^\r\n]*)", re.MULTILINE)
"""The line that ends a traceback, with and without a logger's head (0.29, source: vllm/v1/engine/core.py, and
`decorate_logs` in vllm/utils/system_utils.py)."""


class EngineLog:
    """What is written to this process's output and error output after the log was made."""

    def __init__(self) -> None:
        self._starts = {path: size for path, size in map(_file_of, (1, 2)) if path is not None}

    def first_error(self) -> str | None:
        """The first exception that an engine's process wrote since; what came after it is its consequence."""
        for path, start in self._starts.items():
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    found = _REASON.search(file.read(_MOST_BYTES))
            except OSError:
                continue
            if found is not None:
                return found[1].decode(errors="replace").strip()
        return None


def _file_of(descriptor: int) -> tuple[Path | None, int]:
    """The file behind a descriptor and its length; none where it is a terminal, a pipe or nothing."""
    try:
        state = os.fstat(descriptor)
    except OSError:
        return None, 0
    # By the descriptor and not by its name, which may have changed.
    return (Path(f"/proc/self/fd/{descriptor}") if stat.S_ISREG(state.st_mode) else None), state.st_size


def one_line(error: BaseException) -> str:
    """The error that began it, as one short line: vLLM's own wrappers quote whole arrays."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    lines = str(root).strip().splitlines() or [type(root).__name__]
    return lines[0][:300]
