"""What the pipeline knows of a stage: its place in the graph, its fingerprint, its pool and how a worker builds it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from actors.stage import PoolConfig
from cluster.order import asking_order
from records.errors import UserError
from records.outcomes import STAGES

Modality = Literal["video", "audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One stage of one run. Pickled to the workers, so `build` is a partial of a module's function."""

    name: str
    fingerprint: str
    reads: tuple[str, ...] = ()
    """Stages whose outcome it needs."""
    reads_metadata: bool = False
    """Whether a changed title makes its outcome stale."""
    modality: Modality | None = None
    """The stream it takes from decode."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    build: Callable[[], Any]
    """Makes the stage, ready to be called. Runs in the worker."""
    prepare: Callable[[], None] | None = None
    """What the worker does first, without its GPU: imports, which need not wait for its turn."""
    footer: Mapping[str, str] = field(default_factory=dict)
    """What its files say of how they were made: model, commit, settings."""

    def unbuildable(self) -> "StageSpec":
        """The spec for workers that only read tables: unpickling it imports no stage."""
        return replace(self, build=_never, prepare=None)

    @property
    def is_media(self) -> bool:
        """Whether running it needs the item's bytes."""
        return self.name == "decode" or self.modality is not None


def _never() -> None:
    raise AssertionError("this worker builds no stage")


Specs = Mapping[str, StageSpec]
"""Stage name to spec, upstream first."""


def in_order(stages: Iterable[str]) -> list[str]:
    """The stages given, upstream first."""
    wanted = set(stages)
    return [stage for stage in STAGES if stage in wanted]


def as_asked(specs: Iterable[StageSpec]) -> list[StageSpec]:
    """Stages in the order in which rows pass them, and in which Ray is asked for their workers."""
    return sorted(specs, key=lambda spec: asking_order(spec.name, reads_media=spec.is_media, gpus=spec.pool.num_gpus))


def select_specs(specs: Specs, stages: Iterable[str] | None) -> dict[str, StageSpec]:
    """The stages that a run works on: all, or those named and `decode` where they need media.

    Raises:
        UserError: A name is not a stage of this configuration.
    """
    if stages is None:
        return dict(specs)
    wanted = set(stages)
    unknown = sorted(wanted - set(specs))
    if unknown:
        raise UserError(f"no stage {unknown[0]!r} here; the stages are {', '.join(specs)}")
    if not wanted:
        raise UserError(f"no stage named; the stages are {', '.join(specs)}")
    if any(specs[stage].is_media for stage in wanted):
        wanted.add("decode")
    return {name: specs[name] for name in in_order(wanted)}
