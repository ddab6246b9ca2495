"""The light graph with source and output on a real S3 server: real clips, fetched and decoded by the real stage."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import pytest

from storage.stores import Store
from tests.clips import clip_bytes
from tests.pipeline.drivers import Environment, last_report, light_job, run_light_job
from tests.pipeline.light_stages import light_specs
from tests.pipeline.publishing import objects
from tests.pipeline.runs import committed, same_tables
from tests.s3 import S3Server

pytestmark = pytest.mark.engine

CLIPS = 24
SHORT = ("decode", "caption")
"""Where all stages go one way, two show it: most of a light run is the start of its workers."""


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    """Name to bytes: a few kinds of real clips, and one file that is none."""
    kinds = [
        clip_bytes(seconds=1.0),
        clip_bytes(seconds=1.5, width=96, height=128, fps=8),
        clip_bytes(seconds=1.0, codec="libvpx-vp9", container="webm", audio_codec="libopus"),
        clip_bytes(seconds=1.0, audio=False),
    ]
    found = {f"some/clip-{number:02d}.mp4": kinds[number % len(kinds)] for number in range(CLIPS - 1)}
    return {**found, "some/notes.mp4": b"this is no film"}


@pytest.fixture(scope="module")
def local_output(clips: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, drivers_ray: Environment) -> str:
    """The same run on local folders."""
    folder = tmp_path_factory.mktemp("local")
    for name, data in clips.items():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes(data)
    output = str(folder / "out")
    report = run_light_job(output, folder / "notes", drivers_ray, source=folder / "source", stages=",".join(SHORT))
    assert (report["items_run"], report["items_with_errors"]) == (CLIPS, 1)
    return output


@pytest.fixture
def new_output(s3_server: S3Server, clips: dict[str, bytes]) -> tuple[str, str]:
    """URIs of the clips in a bucket of their own and of an output that is not there yet."""
    bucket = s3_server.bucket()
    for name, data in clips.items():
        s3_server.client().put_object(Bucket=bucket.removeprefix("s3://"), Key=f"source/{name}", Body=data)
    return f"{bucket}/source", f"{bucket}/out"


def test_source_and_output_on_s3_give_the_tables_of_local_folders(
    s3_server: S3Server, new_output: tuple[str, str], local_output: str, drivers_ray: Environment, tmp_path: Path
) -> None:
    source, output = new_output
    report = run_light_job(output, tmp_path / "notes", drivers_ray, source=source, stages=",".join(SHORT))
    assert (report["items_run"], report["items_with_errors"], report["stopped"]) == (CLIPS, 1, None)
    specs = light_specs(tmp_path, stages=SHORT)
    tables = committed(output, specs)
    same_tables(tables, committed(local_output, specs))
    assert tables["decode"]["some/notes"]["kind"] == "corrupt"
    assert tables["decode"]["some/clip-02"]["video_codec"] == "vp9"
    clips_of_bucket = f"/{source.removeprefix('s3://')}/some/"
    fetched = [path for method, path in s3_server.requests if method == "GET" and path.startswith(clips_of_bucket)]
    assert len(fetched) == CLIPS, "each clip is fetched once"
    assert json.loads(Store.open(output).read_bytes("leases/lease.json"))["released"]


def refusal_after(
    requests: int, part: str, refused: str, answer: tuple[int, str]
) -> Callable[[WSGIEnvironment], tuple[int, str] | None]:
    """From some GET of a path with `part` in it on, refuses all requests of paths with `refused` in them."""
    seen = 0
    lock = threading.Lock()

    def gate(environ: WSGIEnvironment) -> tuple[int, str] | None:
        nonlocal seen
        with lock:
            seen += environ["REQUEST_METHOD"] == "GET" and part in environ["PATH_INFO"]
            expired = seen > requests and refused in environ["PATH_INFO"]
        return answer if expired else None

    return gate


EXPIRED = (400, "ExpiredToken")
"""S3's answer to a session's token that is too old."""


def test_credentials_that_expire_stop_the_run_and_commit_nothing_false(
    s3_server: S3Server, new_output: tuple[str, str], local_output: str, drivers_ray: Environment, tmp_path: Path
) -> None:
    source, output = new_output
    specs = light_specs(tmp_path, stages=SHORT)
    with s3_server.refusing(refusal_after(9, "/source/some/", "/source/some/", EXPIRED)):
        driver = light_job(output, tmp_path / "notes", drivers_ray, source=source, shard_size=4, stages=",".join(SHORT))
        assert driver.wait() == 3, driver.said()[-2000:]
    assert last_report(output)["stopped"] == "too many rows failed alike: forbidden"
    assert "too many rows failed alike: forbidden. Mend what made them fail" in driver.said()
    tables = committed(output, specs)
    assert 0 < len(tables["decode"]) < CLIPS
    assert all(line["type"] != "Failure" for lines in tables.values() for line in lines.values())
    before = objects(output, "stages/")

    run_light_job(output, tmp_path / "again", drivers_ray, source=source, stages=",".join(SHORT))
    after = objects(output, "stages/")
    assert {path: after[path] for path in before} == before
    same_tables(committed(output, specs), committed(local_output, specs))


def test_a_token_of_source_and_output_that_expires_ends_the_run_with_one_line(
    s3_server: S3Server, new_output: tuple[str, str], drivers_ray: Environment, tmp_path: Path
) -> None:
    source, output = new_output
    bucket = source.removeprefix("s3:/").partition("/source")[0]
    with s3_server.refusing(refusal_after(9, "/source/some/", bucket, EXPIRED)):
        driver = light_job(output, tmp_path / "notes", drivers_ray, source=source, shard_size=4, stages=",".join(SHORT))
        assert driver.wait() == 2, driver.said()[-2000:]
    (last,) = [line for line in driver.said().splitlines() if line.startswith("error: ")]
    assert ": access refused (" in last
    assert "Traceback" not in driver.said()
    tables = committed(output, light_specs(tmp_path, stages=SHORT))
    assert all(line["type"] != "Failure" for lines in tables.values() for line in lines.values())


def test_an_output_that_refuses_in_the_middle_ends_the_run_with_one_line(
    s3_server: S3Server, new_output: tuple[str, str], drivers_ray: Environment, tmp_path: Path
) -> None:
    source, output = new_output
    specs = light_specs(tmp_path, stages=SHORT)

    def no_more_stages(environ: WSGIEnvironment) -> tuple[int, str] | None:
        refused = environ["REQUEST_METHOD"] == "PUT" and "/out/stages/caption/" in environ["PATH_INFO"]
        return (403, "AccessDenied") if refused else None

    with s3_server.refusing(no_more_stages):
        driver = light_job(output, tmp_path / "notes", drivers_ray, source=source, shard_size=4, stages=",".join(SHORT))
        assert driver.wait() == 2, driver.said()[-2000:]
    last = driver.said().splitlines()[-1]
    assert last.startswith("error: ")
    assert "stages/caption" in last
    assert "caption" not in committed(output, specs)
