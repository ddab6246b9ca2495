"""What the document of each view holds, for every combination of texts, notes and failures."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.documents import NOT_RUN, READABLE, Document, Documents, DocumentTemplates, make_documents
from records.errors import Failure, FailureKind
from records.outcomes import AudioDescription, AudioTags, Caption, Note, Outcome, Transcript
from tests.actors.rows import make_row

PLAIN = DocumentTemplates()
FULL: Mapping[str, Outcome | Failure] = {
    "caption": Caption(text="A dog jumps."),
    "transcribe": Transcript(text="Good boy!", language="en"),
    "describe_audio": AudioDescription(text="A dog barks."),
    "tag_audio": AudioTags(labels=("Dog", "Wind"), scores=(0.9, 0.05)),
}
EMPTY: Mapping[str, Outcome | Failure] = {
    "caption": Caption(text="", note=Note.NO_VIDEO),
    "transcribe": Transcript(text="", note=Note.NO_SPEECH),
    "describe_audio": AudioDescription(text="", note=Note.SILENT),
    "tag_audio": AudioTags(labels=(), scores=(), note=Note.SILENT),
}


def documents(
    outcomes: Mapping[str, Outcome | Failure], title: str = "My dog", templates: DocumentTemplates = PLAIN
) -> Documents:
    return make_documents(make_row(title=title, outcomes=outcomes), list(outcomes), templates, min_tag_score=0.1)


def test_every_text_stands_in_its_place_with_the_title_first() -> None:
    made = documents(FULL)
    assert made.video.text == "A dog jumps."
    assert made.audio.text == "Speech: Good boy!\nSounds: A dog barks.\nAudio tags: Dog"
    assert made.metadata.text == "My dog"
    assert made.all.text == f"Title: My dog\nVideo: A dog jumps.\nAudio: {made.audio.text}"


def test_a_text_with_braces_is_text() -> None:
    made = documents({"caption": Caption(text="a sign that says {text} {0} {}")}, title="{title}")
    assert made.all.text == "Title: {title}\nVideo: a sign that says {text} {0} {}"


def test_templates_are_the_users() -> None:
    templates = DocumentTemplates(caption="<{text}>", all_video="[{text}]", separator=" | ")
    made = documents({"caption": FULL["caption"]}, templates=templates)
    assert (made.video.text, made.all.text) == ("<A dog jumps.>", "Title: My dog | [<A dog jumps.>]")
    with pytest.raises(ValueError, match=r"the template title lacks \{text\}"):
        DocumentTemplates(title="Title:")


@given(
    states=st.fixed_dictionaries({stage: st.sampled_from(["full", "empty", "failed", "absent"]) for stage in READABLE})
)
def test_a_view_is_whole_or_missing(states: Mapping[str, str]) -> None:
    outcomes: dict[str, Outcome | Failure] = {}
    for stage, state in states.items():
        if state == "failed":
            outcomes[stage] = Failure(stage=stage, kind=FailureKind.TIMEOUT, message="too slow")
        elif state != "absent":
            outcomes[stage] = (FULL if state == "full" else EMPTY)[stage]
    made = documents(outcomes, title="")
    views: tuple[tuple[Document, tuple[str, ...]], ...] = (
        (made.video, ("caption",)),
        (made.audio, ("transcribe", "describe_audio", "tag_audio")),
        (made.all, READABLE),
    )
    for document, stages in views:
        seen = [states[stage] for stage in stages]
        assert bool(document.text) != bool(document.missing)
        assert bool(document.text) == ("failed" not in seen and "full" in seen)
        if "failed" in seen:
            assert document.missing == "timeout"
    assert (made.audio.missing == NOT_RUN) == all(states[stage] == "absent" for stage in views[1][1])
    assert made.metadata.missing == "no_title"


def test_a_stage_that_is_read_has_an_outcome() -> None:
    with pytest.raises(KeyError, match="caption"):
        make_documents(make_row(), ["caption"], PLAIN, 0.0)
