import os

import pytest

from actors.engine_log import EngineLog

# As vLLM 0.29 writes it: once through its logger, once as Python ends.
OUTPUT = b"""\
(EngineCore pid=7) INFO 11-27 03:35:02 [utils.py:306] Using LBNHC KV cache layout.
(EngineCore pid=7) ERROR 11-27 03:35:04 [core.py:1374] Traceback (most recent call last):\r
(EngineCore pid=7) ERROR 11-27 03:35:04 [core.py:1374]     raise RuntimeError(f"Cannot find {self.binary}")\r
(EngineCore pid=7) ERROR 11-27 03:35:04 [core.py:1374] RuntimeError: Cannot find ptxas\r
(EngineCore pid=7) ValueError: what follows from it
"""


def test_the_first_exception_is_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"(EngineCore pid=1) ValueError: of an engine before\n")
    log = EngineLog()
    os.write(2, OUTPUT)
    assert log.first_error() == "RuntimeError: Cannot find ptxas"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            b"(Worker_TP1 pid=9) torch.OutOfMemoryError: CUDA out of memory.",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (b"(EngineCore pid=9) INFO 11-27 03:35:02 [a.py:1] no Error at all", None),
        (b"ValueError: of the worker itself", None),
    ],
)
def test_only_engines_count(capfd: pytest.CaptureFixture[str], line: bytes, reason: str | None) -> None:
    log = EngineLog()
    os.write(1, line + b"\n")
    assert log.first_error() == reason


def test_nothing_is_read_from_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    saved = os.dup(1), os.dup(2)
    try:
        for descriptor in (1, 2):
            os.dup2(write, descriptor)
        log = EngineLog()
        os.write(1, OUTPUT)
        reason = log.first_error()
    finally:
        for descriptor, was in zip((1, 2), saved, strict=True):
            os.dup2(was, descriptor)
            os.close(was)
        os.close(read)
        os.close(write)
    assert reason is None
