"""Writes small releases in the published layout."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


def write_release(
    output: Path,
    name: str,
    item_ids: Sequence[str],
    vectors: Mapping[str, npt.NDArray[Any]],
    *,
    has: Mapping[str, Sequence[bool]] | None = None,
    durations: Mapping[str, float | None] | None = None,
) -> Path:
    """A release of these items and views, and the pointer to it; returns the release's folder."""
    folder = output / "releases" / name
    (folder / "vectors").mkdir(parents=True)
    (folder / "items").mkdir()
    there = {view: [True] * len(item_ids) if has is None else list(has[view]) for view in vectors}
    for view, values in vectors.items():
        np.save(folder / "vectors" / f"{view}.npy", values)
    columns: dict[str, Any] = {"video_id": list(item_ids), "version": [1] * len(item_ids)}
    pq.write_table(pa.table(columns | {f"has_{view}": has for view, has in there.items()}), folder / "item_ids.parquet")
    seconds = pa.array([None if durations is None else durations[one] for one in item_ids], pa.float64())
    half = len(item_ids) // 2
    items = pa.table(columns | {"duration_seconds": seconds, "title": ["t"] * len(item_ids)})
    pq.write_table(items.slice(0, half), folder / "items" / "part-00000.parquet")
    pq.write_table(items.slice(half), folder / "items" / "part-00001.parquet")
    dimension = next(iter(vectors.values())).shape[1]
    (folder / "manifest.json").write_text(json.dumps({"release": name, "dimension": dimension}))
    (output / "releases" / "LATEST").write_text(f"{name}\n")
    return folder
