"""A whole run over URLs that carry passwords and signatures: neither its logs nor what it writes shows them."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.decode_config import DecodeConfig
from pipeline.builders import build_decode
from storage.catalog_refresh import refresh
from storage.faults import RetryConfig
from storage.fetch import FetchConfig
from storage.source_items import SourceItem
from storage.stores import Store
from tests.clips import clip_bytes
from tests.pipeline.light_stages import light_specs
from tests.pipeline.runs import committed, run_light
from tests.web import WebServer, web  # noqa: F401 - a fixture

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]

PASSWORD, SIGNATURE = "pa55w0rd", "51gnature0fTheUrl"


def test_what_a_run_says_and_writes_holds_no_password_and_no_signature(
    web: WebServer,  # noqa: F811 - the fixture
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clip = clip_bytes(seconds=0.5)
    web.objects["/a.mp4"] = web.objects["/changed.mp4"] = clip
    web.objects["/text.mp4"] = b"no video"
    host = f"http://user:{PASSWORD}@127.0.0.1:{web.port}"
    names = {"a": len(clip), "changed": 7, "text": None, "gone": None}
    listing = [
        SourceItem(video_id=name, uri=f"{host}/{name}.mp4?X-Amz-Signature={SIGNATURE}", size_bytes=size, etag="")
        for name, size in names.items()
    ]
    listing.append(SourceItem(video_id="nobody", uri=f"http://x:{PASSWORD}@127.0.0.1:9/n.mp4", size_bytes=1, etag=""))
    output = tmp_path / "out"
    refresh(Store.open(str(output)), listing, None, f"{host}/list.csv?sig={SIGNATURE}", 8, lambda shard_id: 1)
    specs = dict(light_specs(tmp_path / "reads"))
    fetch = FetchConfig(retry=RetryConfig(attempts=2, first_wait_seconds=0.1))
    specs["decode"] = replace(specs["decode"], build=partial(build_decode, DecodeConfig(max_frames=4), fetch))
    with caplog.at_level(logging.DEBUG):
        for package in ("pipeline", "storage", "actors"):
            caplog.set_level(logging.DEBUG, logger=package)
        report = run_light(output, specs)
    assert (report.items_run, report.items_with_errors) == (5, 4)
    tables = committed(output, specs)
    kinds = {name: line.get("kind") for name, line in tables["decode"].items()}
    assert kinds == {
        "a": None, "changed": "changed", "text": "corrupt", "gone": "not_found", "nobody": "unreachable",
    }  # fmt: skip
    said = {"log": caplog.text, "tables": str(tables)}
    said |= {str(path): path.read_text() for path in (output / "runs").rglob("report.*")}
    assert len(said) == 4
    assert f"http://127.0.0.1:{web.port}/list.csv" in str(said)
    node: Any = ray._private.worker._global_node  # its type says None
    logs = Path(node.get_session_dir_path()) / "logs"
    said |= {path.name: path.read_text(errors="replace") for path in logs.glob("worker-*")}
    assert any(name.startswith("worker-") for name in said)
    leaks = {name for name, text in said.items() if PASSWORD in text or SIGNATURE in text}
    assert leaks == set()
