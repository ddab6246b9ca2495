"""What of a row's texts makes the document of each view, and why a view has none.

A view is whole or missing: where a stage that it reads has failed, it is missing with the failure's kind, so that a
vector never stands for half of what there is. What is legitimately empty (no sound, no title) is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from records.errors import Failure
from records.items import Row
from records.outcomes import AudioDescription, AudioTags, Caption, Note, Outcome, Transcript

VIDEO_STAGES = ("caption",)
AUDIO_STAGES = ("transcribe", "describe_audio", "tag_audio")
READABLE = (*VIDEO_STAGES, *AUDIO_STAGES)
"""Stages whose texts can be part of a document."""

NOT_RUN = "not_run"
"""Why a view is missing where the run has none of its stages."""
NO_TITLE = "no_title"
EMPTY = "empty"
"""Why a view is missing where its stages ran, failed nowhere, gave no text and no note."""

_SLOT = "{text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentTemplates:
    """How texts are put together. `{text}` stands for the text; an empty text takes its template with it.

    Raises:
        ValueError: A template without `{text}`.
    """

    caption: str = _SLOT
    transcript: str = "Speech: {text}"
    audio_description: str = "Sounds: {text}"
    audio_tags: str = "Audio tags: {text}"
    title: str = _SLOT
    all_metadata: str = "Title: {text}"
    """The title's document inside `all`."""
    all_video: str = "Video: {text}"
    all_audio: str = "Audio: {text}"
    separator: str = "\n"
    """Between the parts of one document."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if name != "separator" and _SLOT not in getattr(self, name):
                raise ValueError(f"embed: the template {name} lacks {_SLOT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The text of one view, or why there is none."""

    text: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The documents of a row."""

    video: Document
    audio: Document
    metadata: Document
    all: Document

    def views(self) -> tuple[Document, Document, Document, Document]:
        """Video, audio, metadata, all."""
        return (self.video, self.audio, self.metadata, self.all)


def make_documents(row: Row, reads: Sequence[str], templates: DocumentTemplates, min_tag_score: float) -> Documents:
    """The document of each view.

    Args:
        row: Has an outcome for every stage in `reads`.
        reads: The stages of this run, of `READABLE`; the others are no part of any document.
        templates: How texts are put together.
        min_tag_score: Tags below are no part of a document.

    Raises:
        KeyError: The row lacks the outcome of a stage in `reads`.
    """
    outcomes = {stage: row.outcomes[stage] for stage in READABLE if stage in reads}
    video = _view(outcomes, VIDEO_STAGES, templates, min_tag_score)
    audio = _view(outcomes, AUDIO_STAGES, templates, min_tag_score)
    title = " ".join(row.metadata.title.split())
    metadata = Document(text=_fill(templates.title, title)) if title else Document(missing=NO_TITLE)
    return Documents(video=video, audio=audio, metadata=metadata, all=_all(outcomes, video, audio, metadata, templates))


def _view(
    outcomes: Mapping[str, Outcome | Failure], stages: Sequence[str], templates: DocumentTemplates, min_tag_score: float
) -> Document:
    read = [outcomes[stage] for stage in stages if stage in outcomes]
    if not read:
        return Document(missing=NOT_RUN)
    failed = _first_failure(read)
    if failed:
        return Document(missing=failed)
    parts = [part for part in (_part(outcome, templates, min_tag_score) for outcome in read) if part]
    if parts:
        return Document(text=templates.separator.join(parts))
    notes = [str(note) for note in map(_note, read) if note]
    return Document(missing=notes[0] if notes else EMPTY)


def _all(
    outcomes: Mapping[str, Outcome | Failure],
    video: Document,
    audio: Document,
    metadata: Document,
    templates: DocumentTemplates,
) -> Document:
    """The title first: where an encoder cuts, it cuts the end."""
    failed = _first_failure(list(outcomes.values()))
    if failed:
        return Document(missing=failed)
    slots = ((templates.all_metadata, metadata), (templates.all_video, video), (templates.all_audio, audio))
    parts = [_fill(template, document.text) for template, document in slots if document.text]
    return Document(text=templates.separator.join(parts)) if parts else Document(missing=EMPTY)


def _part(outcome: Outcome | Failure, templates: DocumentTemplates, min_tag_score: float) -> str:
    """One stage's text in its template; empty where there is no text."""
    match outcome:
        case Caption(text=text):
            template = templates.caption
        case Transcript(text=text):
            template = templates.transcript
        case AudioDescription(text=text):
            template = templates.audio_description
        case AudioTags(labels=labels, scores=scores):
            template = templates.audio_tags
            kept = (label for label, score in zip(labels, scores, strict=True) if score >= min_tag_score)
            text = ", ".join(kept)
        case _:
            raise TypeError(f"embed reads no {type(outcome).__name__}")
    text = text.strip()
    return _fill(template, text) if text else ""


def _fill(template: str, text: str) -> str:
    # Not str.format: a text may hold braces.
    return template.replace(_SLOT, text)


def _first_failure(outcomes: Sequence[Outcome | Failure]) -> str:
    return next((str(outcome.kind) for outcome in outcomes if isinstance(outcome, Failure)), "")


def _note(outcome: Outcome | Failure) -> Note:
    return outcome.note if isinstance(outcome, Caption | Transcript | AudioDescription | AudioTags) else Note.NONE
