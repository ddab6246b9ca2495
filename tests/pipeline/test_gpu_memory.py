"""What a probe's worker says of the memory of its GPUs, on any NVIDIA GPU."""

import os

import pytest


@pytest.mark.engine
@pytest.mark.needs_gpu
def test_memory_that_is_in_use_on_the_workers_gpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pipeline.probe_worker import gpu_memory_bytes  # here: it brings Ray

    held = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES") or "0")
    used = gpu_memory_bytes()
    assert used is not None
    assert used >= held.nbytes
