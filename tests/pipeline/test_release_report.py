"""The report is one page that fetches nothing, shows what there is, and survives whatever a model or a user wrote."""

import base64
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline.release_gallery import key_frames
from pipeline.release_plots import main_axes
from records.errors import Failure
from records.items import CatalogItem
from records.outcomes import AudioTags, Caption, Outcome, Transcript
from storage.local_listing import local_etag
from storage.stores import Store
from tests.clips import make_clip
from tests.pipeline.publishing import publish
from tests.pipeline.stage_maker import Maker, ids_of, publish_config

HOSTILE = (
    '</dd></section><script>alert("x")</script><img src=http://evil.example/x onerror=alert(1)>'
    "\u202e & {{ release }} $\\frac{1}{0}$ \0"
)


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(stage: str, video_id: str, outcome: Outcome | Failure) -> Outcome | Failure:
    match outcome:
        case Caption():
            return Caption(text=HOSTILE, finish_reason="stop")
        case Transcript():
            return Transcript(text=HOSTILE, language="$x^{2$<b>", language_probability=0.1)
        case AudioTags():
            return AudioTags(labels=(HOSTILE,), scores=(0.5,), windows=1)
    return outcome


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    uri = str(tmp_path / "out")
    maker = Maker(store=Store.open(uri), change=hostile)
    names = ["<script>alert('id')</script>", '"><b>bold</b>', "a'b&c", *ids_of(57)]
    maker.fill(maker.list_items(names))
    published = publish(uri, "r1", publish_config(gallery_items=60))
    assert published.state == "refused"
    page = Page(Path(published.report_uri).read_text())
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "div", "span", "b", "p", "table",
        "tr", "th", "td", "figure", "figcaption", "img", "code", "pre", "section", "dl", "dt", "dd",
    }  # fmt: skip
    sources = [attributes.get("src") for tag, attributes in page.tags if tag == "img"]
    assert sources
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert not any(name.startswith("on") or name == "href" for _, attributes in page.tags for name in attributes)
    assert 'alert("x")' in page.text
    for name in names[:3]:
        assert name in page.text
    assert "{{ release }}" in page.text
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in page.tags)
    for source in sources:
        drawn = base64.b64decode(str(source).partition(",")[2])
        assert b"<script" not in drawn


def test_a_gallery_shows_texts_tags_and_neighbours(tmp_path: Path) -> None:
    uri = str(tmp_path / "out")
    maker = Maker(store=Store.open(uri))
    maker.fill(maker.list_items(ids_of(60)))
    published = publish(uri, "r1", publish_config(gallery_items=4))
    text = Page(Path(published.report_uri).read_text()).text
    shown = set(re.findall(r"clip-\d{4} version 1", " ".join(text.split())))
    assert len(shown) == 4
    for one in shown:
        caption = maker.outcome("caption", one.split()[0], "")
        assert isinstance(caption, Caption)
        assert caption.text in text
    assert "Speech 0.75" in text
    assert "60 items: all that there are" in text
    assert len(re.findall(r"\d\.\d{3}", text)) >= 4 * 3 * 3
    publish(uri, "r2", publish_config(gallery_items=4))
    assert "compared with release r1" in Path(uri, "releases", "r2", "report.html").read_text()


def test_key_frames_are_small_pictures_in_order_or_a_reason(tmp_path: Path) -> None:
    make_clip(tmp_path / "good.mp4", seconds=2.0, width=640, height=360)
    make_clip(tmp_path / "turned.mp4", seconds=1.0, width=320, height=160, rotation=90)
    make_clip(tmp_path / "sound.wav", codec=None, audio_codec="pcm_s16le", seconds=1.0)
    (tmp_path / "broken.mp4").write_bytes(b"this is no video")
    items = [
        CatalogItem(
            video_id=file.stem, version=1, uri=str(file), size_bytes=file.stat().st_size, etag=local_etag(file.stat())
        )
        for file in sorted(tmp_path.iterdir())
    ]
    items.append(replace(items[0], video_id="gone", uri=str(tmp_path / "gone.mp4")))
    items.append(replace(items[1], video_id="changed", size_bytes=1))
    config = publish_config(key_frames=4)
    found = {item.video_id: one for item, one in zip(items, key_frames(items, config), strict=True)}
    assert {name: len(frames) for name, (frames, _) in found.items()} == {
        "broken": 0, "good": 4, "sound": 0, "turned": 4, "gone": 0, "changed": 0,
    }  # fmt: skip
    reasons = {name: note for name, (_, note) in found.items()}
    assert reasons["broken"].startswith("no frames: corrupt")
    assert reasons["gone"].startswith("no frames: not_found")
    assert reasons["changed"].startswith("no frames: changed")
    assert (reasons["good"], reasons["sound"]) == ("", "no video")
    assert len(set(found["good"][0])) == 4
    width, height = jpeg_size(found["good"][0][0])
    assert width * height <= 200 * 150
    assert width / height == pytest.approx(16 / 9, rel=0.05)
    width, height = jpeg_size(found["turned"][0][0])
    assert height / width == pytest.approx(2, rel=0.05)
    assert key_frames(items[:1], publish_config(key_frames=0)) == [([], "")]


def test_the_map_shows_the_two_main_axes() -> None:
    draw = np.random.default_rng(1)
    units = draw.normal(size=(80, 6)) * [9.0, 5.0, 1.0, 0.5, 0.2, 0.1]
    left, values, _ = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    np.testing.assert_allclose(np.abs(main_axes(units)), np.abs(expected), atol=1e-6)


def jpeg_size(uri: str) -> tuple[int, int]:
    """Width and height from a baseline JPEG's own header."""
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    place = data.index(b"\xff\xc0")
    height, width = struct.unpack(">HH", data[place + 5 : place + 9])
    return width, height
