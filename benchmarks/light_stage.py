"""A stage that does nothing, for benchmarks of what moves the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from records.items import Row
from records.outcomes import AudioDescription, AudioTags, Caption, Embedding, MediaFacts, Outcome, Transcript, View

TEXT = "A person in a red coat walks along a windy beach while a dog runs ahead and waves break behind them. " * 4


@dataclass
class Nothing:
    """Gives every row the same outcome."""

    stage: str
    length: int = 1024

    def outcome(self) -> Outcome:
        """What it says of every item."""
        if self.stage == "embed":
            vector = np.full(self.length, 1.0 / np.sqrt(self.length), dtype=np.float32)
            view = View(document=TEXT, vector=vector, chunks=1)
            return Embedding(video=view, audio=view, metadata=view, all=view)
        outcomes: dict[str, Outcome] = {
            "decode": MediaFacts(duration_seconds=15.0, has_video=True, has_audio=True),
            "caption": Caption(text=TEXT, finish_reason="stop"),
            "transcribe": Transcript(text=TEXT, language="en"),
            "describe_audio": AudioDescription(text=TEXT, windows=1),
            "tag_audio": AudioTags(labels=("Speech", "Music"), scores=(0.9, 0.1)),
        }
        return outcomes[self.stage]

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        return [self.outcome()] * len(rows)

    def close(self) -> None:
        """Nothing to free."""


@dataclass
class LosesCalls(Nothing):
    """Loses each call that brings an item of some id, unless that comes alone: as a worker that dies of it would."""

    lost: str = ""

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        lost = len(rows) > 1 and any(row.item.video_id == self.lost for row in rows)
        return [] if lost else super().__call__(rows)
