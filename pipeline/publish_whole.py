"""The objects of a release that hold every row: cut into tasks over its items files, put together from the answers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.publish_config import PublishConfig
from pipeline.publish_parts import PartDone
from pipeline.publish_tasks import TaskRunner
from pipeline.publish_vectors import IdsTask, PartRows, PieceTask, VectorFile, WholeWriter, piece_tasks
from records.releases import VIEWS, ReleaseFile
from records.schemas import VectorDtype
from storage.releases import part_path, release_path, vectors_path
from storage.stores import Store
from storage.uploads import piece_bytes_for

logger = logging.getLogger(__name__)

IDS = "item_ids.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeObjects:
    """`item_ids.parquet` and one `.npy` a view."""

    store: Store
    output_uri: str
    release: str
    dtype: VectorDtype
    config: PublishConfig
    still_ours: Callable[[], None]
    """Raises where another publish took over."""

    def write(self, done: Sequence[PartDone], dimension: int, run: TaskRunner) -> list[ReleaseFile]:
        """Writes what is missing; what a killed publish of this content finished stays. Names it all, the parts too."""
        parts = self._parts(done)
        rows = sum(part.rows for part in done)
        ids_path = release_path(self.release, IDS)
        files = [self._vector_file(view, rows, dimension) for view in VIEWS]
        pending = {file.view: file for file in files if not self.store.exists(file.path)}
        tokens = {view: self.store.start_upload(file.path) for view, file in pending.items()}
        tasks: list[PieceTask | IdsTask] = []
        if not self.store.exists(ids_path):
            tasks.append(IdsTask(path=ids_path, parts=parts))
        for view, file in pending.items():
            piece_bytes = piece_bytes_for(file.size_bytes, self.config.piece_bytes)
            tasks += piece_tasks(file, tokens[view], piece_bytes, parts)
        receipts = self._run(tasks, run, list(pending))
        for view, file in pending.items():
            self.store.finish_upload(file.path, tokens[view], receipts[view], file.size_bytes)
        logger.info("release=%s vectors of %d views: %d x %d", self.release, len(VIEWS), rows, dimension)
        return [
            *(
                ReleaseFile(path=part_path(part.number), size_bytes=part.size_bytes, rows=part.rows, sha256=part.sha256)
                for part in done
            ),
            *(ReleaseFile(path=vectors_path(file.view), size_bytes=file.size_bytes, rows=rows) for file in files),
            ReleaseFile(path=IDS, size_bytes=self.store.size(ids_path), rows=rows),
        ]

    def _run(self, tasks: Sequence[PieceTask | IdsTask], run: TaskRunner, views: Sequence[str]) -> dict[str, list[str]]:
        """View to its pieces' receipts, in the order of the pieces."""
        receipts: dict[str, dict[int, str]] = {view: {} for view in views}
        for answer in run(tasks, WholeWriter(output_uri=self.output_uri)):
            self.still_ours()
            if answer:
                receipts[answer["view"]][answer["number"]] = answer["receipt"]
        return {view: [found[number] for number in sorted(found)] for view, found in receipts.items()}

    def _parts(self, done: Sequence[PartDone]) -> tuple[PartRows, ...]:
        parts: list[PartRows] = []
        first = 0
        for part in done:
            path = release_path(self.release, part_path(part.number))
            parts.append(PartRows(path=path, first_row=first, rows=part.rows))
            first += part.rows
        return tuple(parts)

    def _vector_file(self, view: str, rows: int, dimension: int) -> VectorFile:
        path = release_path(self.release, vectors_path(view))
        return VectorFile(path=path, view=view, rows=rows, dimension=dimension, dtype=self.dtype)
