"""The adapter of the decode stage: the one stage that makes media instead of reading them."""

from collections.abc import Sequence

import pyarrow as pa

from actors.decode import Decoded
from pipeline.spec import StageSpec
from pipeline.worker import BusyClock, StageHolder, Teller, one_outcome_each
from records.errors import Failure
from records.flow import FlowRow, flow_rows, with_media, with_outcomes, with_spent
from records.items import Row
from records.media import Audio, Frames
from records.outcomes import MediaFacts


class DecodeWorker:
    """Fetches and decodes the lines that need it, each only for the streams that its pending stages take.

    Args:
        spec: The decode stage.
        modalities: Stage name to the stream it takes, for every stage of the run: a line whose decode is pending is
            decoded for all of them, so that its facts do not depend on which of them run in this phase.
        teller: Told if the stage cannot start.
        one_by_one: Whether the teller hears of each item before it runs.
    """

    def __init__(
        self, spec: StageSpec, *, modalities: dict[str, str], teller: Teller | None = None, one_by_one: bool = False
    ) -> None:
        self._spec = spec
        self._modalities = modalities
        self._started = teller.started if teller is not None and one_by_one else None
        self._clock = BusyClock()
        self._holder = StageHolder(spec, teller)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The block with facts, frames and sound added."""
        lines = flow_rows(table, (self._spec.name,))
        wants = [self._wants(line) for line in lines]
        indices = [index for index, line in enumerate(lines) if wants[index] or self._is_new(line)]
        if not indices:
            return table
        with self._clock:
            decoded = self._decode([lines[index] for index in indices], [wants[index] for index in indices])
        outcomes = [line.outcomes.get(self._spec.name) for line in lines]
        frames: list[Frames | None] = [None] * len(lines)
        audio: list[Audio | None] = [None] * len(lines)
        for index, one in zip(indices, decoded, strict=True):
            if isinstance(one, Failure):
                outcomes[index] = one
            else:
                outcomes[index] = one.facts
                frames[index], audio[index] = one.frames, one.audio
        table = with_media(with_outcomes(table, self._spec.name, outcomes), frames, audio)
        return with_spent(table, self._spec.name, self._clock.take())

    def _is_new(self, line: FlowRow) -> bool:
        return self._spec.name in line.pending and self._spec.name not in line.outcomes

    def _wants(self, line: FlowRow) -> frozenset[str]:
        """The streams to decode; none where what is stored says that they are not there or cannot be read."""
        wanted = frozenset(self._modalities[stage] for stage in line.pending if stage in self._modalities)
        stored = line.outcomes.get(self._spec.name)
        if self._is_new(line):
            return frozenset(self._modalities.values())
        if isinstance(stored, Failure):
            return frozenset()
        if isinstance(stored, MediaFacts):
            readable = {
                "video": stored.has_video and stored.video_failure is None,
                "audio": stored.has_audio and stored.audio_failure is None,
            }
            return frozenset(modality for modality in wanted if readable[modality])
        return wanted

    def _decode(self, lines: Sequence[FlowRow], wants: Sequence[frozenset[str]]) -> list[Decoded | Failure]:
        if self._started is not None:
            for line in lines:
                self._started(line, self._spec.name)
        rows = [Row(item=line.item) for line in lines]
        video, audio = ["video" in want for want in wants], ["audio" in want for want in wants]

        def call(indices: Sequence[int]) -> list[Decoded | Failure]:
            part = [[values[index] for index in indices] for values in (rows, video, audio)]
            return list(self._holder.call(lambda stage: stage(*part)))

        return one_outcome_each(self._spec.name, [line.item.video_id for line in lines], call)
