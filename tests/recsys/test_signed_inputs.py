"""What an evaluation reads over presigned URLs: it is read, and no signature is in an error or in what is stored."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluate import table_of
from pipeline.evaluation import BroughtFeatures, EvaluateConfig, load_data
from pipeline.grid import GridOutcome
from pipeline.titles import title_release
from pipeline.worth_markdown import to_json, to_markdown
from records.errors import UserError
from recsys.interactions import read_interactions
from storage.release_reader import ReleaseReader, read_vectors
from storage.stores import Store
from tests.releases import write_release
from tests.web import WebServer, web  # noqa: F401 - a fixture

SIGNATURE = "51gnature/0fTheUrl"


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((2, 3), dtype=np.float32))
    return buffer.getvalue()


def parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.fixture
def signed(web: WebServer) -> WebServer:  # noqa: F811 - the fixture
    """A server that serves nothing without the signature."""
    web.signature = SIGNATURE
    web.objects = {
        "/e.tsv": b"7\tb a\n",
        "/e.csv": b"user,item,time\n7,b,1\n7,a,2\n",
        "/e.parquet": parquet(user=["7", "7"], item=["b", "a"], time=[1, 2]),
        "/bad.csv": b"user,item\n",
        "/e.json": b"{}",
        "/v.npy": npy(),
        "/bad.npy": b"no",
        "/ids.txt": b"a\nb\n",
        "/ids.parquet": parquet(item=["a", "b"]),
        "/t.csv": b"id,title\na,\n",
    }
    return web


@pytest.mark.parametrize("name", ["e.tsv", "e.csv", "e.parquet"])
def test_interactions_under_a_signed_url(signed: WebServer, name: str) -> None:
    events = read_interactions(signed.signed(f"/{name}", SIGNATURE))
    assert [events.item_ids[item] for item in events.items] == ["b", "a"]


@pytest.mark.parametrize("ids", ["ids.txt", "ids.parquet"])
def test_vectors_under_signed_urls(signed: WebServer, ids: str) -> None:
    vectors = read_vectors(signed.signed("/v.npy", SIGNATURE), signed.signed(f"/{ids}", SIGNATURE), None)
    assert (vectors.item_ids, vectors.values.shape) == (["a", "b"], (2, 3))


def test_no_signature_is_in_an_error(signed: WebServer, tmp_path: Path) -> None:
    def url(path: str, signature: str = SIGNATURE) -> str:
        return signed.signed(path, signature)

    fine, old = url("/v.npy"), f"{SIGNATURE}OfYesterday"
    out = Store.open(str(tmp_path))
    reads: list[tuple[Callable[[], object], str]] = [
        (lambda: read_interactions(url("/bad.csv")), "bad.csv has no column time"),
        (lambda: read_interactions(url("/e.json")), "must be one of"),
        (lambda: read_interactions(url("/none.csv")), "no such file"),
        (lambda: read_interactions(url("/e.csv", old)), "access refused"),
        (lambda: read_vectors(url("/bad.npy"), None, ["a"]), "bad.npy is no .npy file"),
        (lambda: read_vectors(url("/v.npy", old), None, ["a"]), "access refused"),
        (lambda: read_vectors(fine, None, None), "whose vectors are these"),
        (lambda: read_vectors(fine, None, ["a"]), "for 1 ids"),
        (lambda: read_vectors(fine, url("/none.txt"), None), "no such file of ids"),
        (lambda: read_vectors(fine, url("/ids.txt", old), None), "access refused"),
        (lambda: read_vectors(fine, url("/v.npy"), None), "one id a line"),
        (lambda: title_release(out, url("/t.csv"), "no-encoder"), "holds no title"),
        (lambda: BroughtFeatures.parse(f"clap={url('/v.npy')},"), "expected NAME=VECTORS.npy"),
        (lambda: BroughtFeatures.parse(f"a+b={url('/v.npy')}"), "no name for features"),
    ]
    for read, words in reads:
        with pytest.raises(UserError, match=words) as caught:
            read()
        assert SIGNATURE not in str(caught.value)
        assert "is no .npy file: http" not in str(caught.value)


def test_no_signature_is_in_the_table(signed: WebServer, tmp_path: Path) -> None:
    ids = [f"v{number:02d}" for number in range(40)]
    values = {"metadata": np.ones((40, 2), dtype=np.float32)}
    write_release(tmp_path, "may", ids, values, durations=dict.fromkeys(ids, 1.0))
    signed.objects["/e.tsv"] = "\n".join(f"{user}\t{' '.join(ids[user : user + 6])}" for user in range(30)).encode()
    release = ReleaseReader.open(str(tmp_path))
    config = EvaluateConfig()
    url = signed.signed("/e.tsv", SIGNATURE)
    data = load_data(
        interactions=read_interactions(url), release=release, brought=[], protocol=config.protocol, sources={"metadata"}
    )
    table = table_of(url, release, data, GridOutcome(results={}, failures={}, reused=0), config, None)
    for text in (to_markdown(table), to_json(table)):
        assert "/e.tsv" in text
        assert SIGNATURE not in text
