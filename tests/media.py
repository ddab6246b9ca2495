"""Where the real clips are that some tests need; they are not part of the repository."""

from pathlib import Path

import pytest


def shared_media() -> Path | None:
    """The folder of real clips beside the checkout, or None where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "media"
    return folder if folder.is_dir() else None


needs_media = pytest.mark.skipif(shared_media() is None, reason="needs ../shared/media")
