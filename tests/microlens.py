"""Where MicroLens's interactions and titles are that some tests need; they are not part of the repository."""

from pathlib import Path

import pytest


def shared_microlens() -> Path:
    """The folder of MicroLens-50K beside the checkout, whether it is there or not."""
    return Path(__file__).resolve().parents[2] / "shared" / "microlens-50k"


needs_microlens = pytest.mark.skipif(not shared_microlens().is_dir(), reason="needs ../shared/microlens-50k")
