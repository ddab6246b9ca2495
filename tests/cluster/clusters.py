"""Small clusters and stages for hypothesis, and packing by trying everything."""

import functools
from collections.abc import Sequence

from hypothesis import strategies as st

from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, Nodes, NodeType

GIB = 2**30
SHARES = (0.0, 0.0, 0.05, 0.1, 0.3, 0.5, 0.6, 1.0, 2.0)


@st.composite
def needs(draw: st.DrawFn) -> Need:
    return Need(
        cpus=draw(st.sampled_from((0.25, 0.5, 1.0, 2.0, 3.0))),
        gpus=draw(st.sampled_from(SHARES)),
        memory_bytes=draw(st.integers(0, 6)) * GIB,
        accelerator=draw(st.sampled_from((None, None, "H100"))),
    )


@st.composite
def node_types(draw: st.DrawFn, name: str) -> NodeType:
    gpus = draw(st.integers(0, 3))
    return NodeType(
        name=name,
        cpus=draw(st.integers(1, 8)),
        gpus=gpus,
        accelerator=draw(st.sampled_from((None, "H100", "L4"))) if gpus else None,
        memory_bytes=draw(st.integers(1, 16)) * GIB,
    )


@st.composite
def node_sets(draw: st.DrawFn) -> Nodes:
    names = draw(st.integers(1, 3))
    return {draw(node_types(f"type-{number}")): draw(st.integers(1, 3)) for number in range(names)}


@st.composite
def stage_loads(draw: st.DrawFn) -> list[StageLoad]:
    """Two to five stages, decode first, each with costs of its own."""
    count = draw(st.integers(1, 4))
    names = ("decode", "caption", "transcribe", "tag_audio", "embed")[: count + 1]
    return [
        StageLoad(
            name=name,
            need=draw(needs()) if name != "decode" else Need(cpus=draw(st.sampled_from((0.5, 1.0)))),
            seconds=draw(st.sampled_from((0.0, 0.03, 0.25, 1.0, 3.7))),
            cpu_seconds=draw(st.sampled_from((0.0, 0.1, 0.9))),
            start_seconds=draw(st.sampled_from((0.0, 20.0))),
            most_workers=draw(st.sampled_from((None, 3))),
            needs_decode=name in ("caption", "transcribe", "tag_audio"),
        )
        for name in names
    ]


def cluster_of(nodes: Nodes) -> Cluster:
    return Cluster(nodes=nodes, reserved=(Need(cpus=0.5),))


_Free = tuple[int, int, tuple[int, ...], str]
"""What is left of a node: hundredths of a CPU, bytes, hundredths of each GPU; and what its GPUs are."""


@functools.cache
def _node(type_: NodeType) -> _Free:
    return round(type_.cpus * 100), type_.memory_bytes, (100,) * type_.gpus, type_.accelerator or ""


def _is_wanted(need: Need, accelerator: str) -> bool:
    return not need.gpus or "" in (need.accelerator or "", accelerator) or need.accelerator == accelerator


def fits_by_trying(workers: Sequence[tuple[Need, int]], nodes: Nodes) -> bool:
    """Whether workers fit, by trying every node and GPU for every worker."""
    flat = sorted(
        (need for need, count in workers for _ in range(count)),
        key=lambda need: (need.gpus, need.memory_bytes, need.cpus),
        reverse=True,
    )
    start = tuple(sorted(_node(type_) for type_, count in nodes.items() for _ in range(count)))

    @functools.cache
    def place(number: int, there: tuple[_Free, ...]) -> bool:
        if number == len(flat):
            return True
        need = flat[number]
        for index, (cpus, memory, devices, accelerator) in enumerate(there):
            if cpus < round(need.cpus * 100) or memory < need.memory_bytes or not _is_wanted(need, accelerator):
                continue
            for left in _after(devices, round(need.gpus * 100)):
                node = (cpus - round(need.cpus * 100), memory - need.memory_bytes, left, accelerator)
                if place(number + 1, tuple(sorted((*there[:index], node, *there[index + 1 :])))):
                    return True
        return False

    return place(0, start)


def fits_one_by_one(workers: Sequence[tuple[Need, int]], nodes: Nodes) -> bool:
    """Whether each worker, in order, finds a place: on the fullest GPU that holds its share, else on the first node."""
    there = [type_ for type_, count in nodes.items() for _ in range(count)]
    cpus, memory = [round(type_.cpus * 100) for type_ in there], [type_.memory_bytes for type_ in there]
    devices = [[100] * type_.gpus for type_ in there]
    for need in (need for need, count in workers for _ in range(count)):
        cores, gpus = round(need.cpus * 100), round(need.gpus * 100)
        share = 0 < gpus < 100
        spots = [
            (min(left for left in devices[at] if left >= gpus) if share else 0, at)
            for at in range(len(there))
            if _is_wanted(need, there[at].accelerator or "")
            and cpus[at] >= cores
            and memory[at] >= need.memory_bytes
            and _after(tuple(devices[at]), gpus)
        ]
        if not spots:
            return False
        fullest, at = min(spots)
        cpus[at], memory[at] = cpus[at] - cores, memory[at] - need.memory_bytes
        if share:
            devices[at][devices[at].index(fullest)] -= gpus
        for _ in range(gpus // 100):
            devices[at][devices[at].index(100)] = 0
    return True


def _after(devices: tuple[int, ...], gpus: int) -> set[tuple[int, ...]]:
    """The GPUs of a node after one more worker, one for each way to give it what it takes."""
    if not gpus:
        return {devices}
    if gpus >= 100:
        whole = [index for index, left in enumerate(devices) if left == 100][: gpus // 100]
        if len(whole) < gpus // 100:
            return set()
        return {tuple(sorted(0 if index in whole else left for index, left in enumerate(devices)))}
    return {
        tuple(sorted((*devices[:index], left - gpus, *devices[index + 1 :])))
        for index, left in enumerate(devices)
        if left >= gpus
    }
