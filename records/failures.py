"""Which failures an outcome holds, and which one keeps a later stage from running."""

from collections import Counter
from collections.abc import Iterable, Mapping

from records.errors import Failure, FailureKind
from records.items import CatalogItem
from records.outcomes import MediaFacts, Outcome


def failures_of(outcome: Outcome | Failure) -> list[Failure]:
    """The failures in an outcome: itself, or those of the streams that decode could not read."""
    if isinstance(outcome, Failure):
        return [outcome]
    if isinstance(outcome, MediaFacts):
        return [failure for failure in (outcome.video_failure, outcome.audio_failure) if failure is not None]
    return []


def known_failure(item: CatalogItem) -> Failure | None:
    """Why decoding an item fails, where the catalog knows it: nothing is fetched to find out."""
    if item.size_bytes == 0:
        return Failure(stage="decode", kind=FailureKind.NO_BYTES, message="0 bytes in the catalog")
    return None


def stream_failure(decoded: Outcome | Failure | None, modality: str) -> Failure | None:
    """Why a clip's `video` or `audio` cannot be looked at, or None where it can (or is simply not there)."""
    if isinstance(decoded, Failure):
        return decoded
    if isinstance(decoded, MediaFacts):
        return decoded.video_failure if modality == "video" else decoded.audio_failure
    return None


def kinds_of(outcomes: Mapping[str, Outcome | Failure]) -> frozenset[str]:
    """The distinct kinds of failure in a row's outcomes: a failure that later stages inherit counts once."""
    return frozenset(str(failure.kind) for outcome in outcomes.values() for failure in failures_of(outcome))


def count_kinds(outcomes: Iterable[Outcome | Failure]) -> dict[str, int]:
    """How many failures of each kind some outcomes hold, those of single streams included."""
    return dict(Counter(str(failure.kind) for outcome in outcomes for failure in failures_of(outcome)))
