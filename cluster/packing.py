"""Whether workers fit on nodes, each worker whole on one node and a share of a GPU on one GPU: no Ray.

First fit, largest first, answers most questions at once. What it cannot place although the sums would allow it goes to
an integer program (HiGHS through scipy). So a yes is always right, and the answer never turns from yes to no where a
node gains something. That holds as far as the program goes: past `MAX_VARIABLES` or `SOLVER_SECONDS` the answer is no
although the workers might fit, and a larger cluster may then be said to hold fewer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

UNITS = 10_000
"""Parts of a CPU or GPU that are told apart, as Ray does: sums of shares are then exact."""
UNLIMITED = 1_000_000
"""Workers that ask for nothing, on one node."""
_MEMORY_UNIT = 2**20
MAX_VARIABLES = 20_000
SOLVER_SECONDS = 5.0
"""Past either, what first fit could not place counts as not fitting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one worker takes of one node.

    Raises:
        ValueError: A number is negative, or more than one GPU is not a whole number of them.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    """A share of one GPU, or a whole number of GPUs."""
    memory_bytes: int = 0
    accelerator: str | None = None
    """The GPU it must be; None for any."""

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or self.memory_bytes < 0:
            raise ValueError("a worker's cpus, gpus and memory_bytes must not be negative")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"a worker takes a share of one GPU or whole ones, not {self.gpus:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """Nodes that are alike."""

    name: str
    cpus: float
    gpus: int = 0
    accelerator: str | None = None
    """Name of its GPUs, as Ray has it (`H100`, `L4` …); None where nobody knows, which fits every wish."""
    memory_bytes: int = 0
    """What workers may take."""

    def holds(self, need: Need) -> bool:
        """Whether one such node, empty, holds one worker."""
        wrong_gpu = need.gpus > 0 and None not in (need.accelerator, self.accelerator)
        if wrong_gpu and need.accelerator != self.accelerator:
            return False
        return need.cpus <= self.cpus and need.gpus <= self.gpus and need.memory_bytes <= self.memory_bytes


Nodes = Mapping[NodeType, int]
"""Node type to how many there are."""


@dataclass(slots=True)
class _Node:
    """What is left of one node, in whole units."""

    type: NodeType
    cpus: int
    memory: int
    devices: list[int]
    """Units left of each GPU."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Workers that are alike, in whole units."""

    need: Need
    count: int
    cpus: int
    gpus: int
    memory: int

    @property
    def is_share(self) -> bool:
        return 0 < self.gpus < UNITS


def fits(workers: Sequence[tuple[Need, int]], nodes: Nodes) -> bool:
    """Whether all workers can be there at once.

    Args:
        workers: Kinds of worker with their numbers.
        nodes: What the cluster has.
    """
    kinds = [_kind(need, count) for need, count in workers if count > 0]
    there = [_node(type_) for type_, count in nodes.items() for _ in range(count)]
    if not _sums_allow(kinds, there):
        return False
    return _first_fit(kinds, there) or _solve(kinds, [_node(node.type) for node in there])


def fits_in_order(workers: Sequence[tuple[Need, int]], nodes: Nodes) -> bool:
    """Whether all workers find a place where each takes the first that it finds, in the order given, as with Ray.

    Ray 2.60 gives a share of a GPU on the fullest GPU of a node that still holds it, and moves nobody later.

    Args:
        workers: As `fits` takes them, in the order in which they are asked for.
        nodes: What the cluster has.
    """
    there = [_node(type_) for type_, count in nodes.items() for _ in range(count)]
    return all(_take_in_order(_kind(need, count), there) for need, count in workers)


def engines_fit(workers: Sequence[tuple[Need, int]], nodes: Nodes) -> bool:
    """Whether those workers that take GPUs find places in the order given, on the nodes that have some.

    Those without come later: their pools begin small, and grow by what is left.

    Args:
        workers: As `fits_in_order` takes them.
        nodes: What the cluster has.
    """
    engines = [(need, count) for need, count in workers if need.gpus]
    most = sum(count for _, count in engines)
    return fits_in_order(engines, {type_: min(count, most) for type_, count in nodes.items() if type_.gpus})


def room(need: Need, type_: NodeType) -> int:
    """How many such workers one such node holds, alone on it."""
    return _room(_kind(need, UNLIMITED), _node(type_))


def _take_in_order(kind: _Kind, there: Sequence[_Node]) -> bool:
    """Puts workers of one kind where they find room first; whether all do. Takes from `there`."""
    left = kind.count
    # Who takes a share leaves that GPU the fullest for the next as well: each GPU is looked at once, the fullest first.
    spots = (
        sorted((free, at, gpu) for at, node in enumerate(there) for gpu, free in enumerate(node.devices))
        if kind.is_share
        else [(UNITS, at, None) for at in range(len(there))]
    )
    for free, at, gpu in spots:
        if not left:
            break
        placed = min(left, _room(kind, there[at]), left if gpu is None else free // kind.gpus)
        _take(kind, there[at], placed)
        left -= placed
    return not left


def _kind(need: Need, count: int) -> _Kind:
    return _Kind(
        need,
        count,
        cpus=round(need.cpus * UNITS),
        gpus=round(need.gpus * UNITS),
        memory=math.ceil(need.memory_bytes / _MEMORY_UNIT),
    )


def _node(type_: NodeType) -> _Node:
    cpus, memory = round(type_.cpus * UNITS), int(type_.memory_bytes) // _MEMORY_UNIT
    return _Node(type_, cpus, memory, [UNITS] * type_.gpus)


def _room(kind: _Kind, node: _Node) -> int:
    """How many more of a kind a node holds."""
    if not node.type.holds(kind.need):
        return 0
    rooms = [kind.count]
    if kind.cpus:
        rooms.append(node.cpus // kind.cpus)
    if kind.memory:
        rooms.append(node.memory // kind.memory)
    if kind.is_share:
        rooms.append(sum(left // kind.gpus for left in node.devices))
    elif kind.gpus:
        rooms.append(sum(left == UNITS for left in node.devices) // (kind.gpus // UNITS))
    return min(rooms)


def _sums_allow(kinds: Sequence[_Kind], there: Sequence[_Node]) -> bool:
    """What no placement can get around: the sums, and each kind alone."""
    total = [sum(node.cpus for node in there), sum(node.memory for node in there)]
    total.append(sum(sum(node.devices) for node in there))
    asked = [sum(kind.count * kind.cpus for kind in kinds), sum(kind.count * kind.memory for kind in kinds)]
    asked.append(sum(kind.count * kind.gpus for kind in kinds))
    if any(one > other for one, other in zip(asked, total, strict=True)):
        return False
    return all(sum(_room(kind, node) for node in there) >= kind.count for kind in kinds)


def _first_fit(kinds: Sequence[_Kind], there: Sequence[_Node]) -> bool:
    """Largest first; workers without a GPU go to nodes without one first. Takes from `there`."""
    for kind in sorted(kinds, key=lambda one: (one.gpus, one.memory, one.cpus), reverse=True):
        left = kind.count
        for node in sorted(there, key=lambda one: len(one.devices)):
            placed = min(left, _room(kind, node))
            if placed:
                _take(kind, node, placed)
                left -= placed
        if left:
            return False
    return True


def _take(kind: _Kind, node: _Node, count: int) -> None:
    node.cpus -= count * kind.cpus
    node.memory -= count * kind.memory
    if kind.is_share:
        for index in sorted(range(len(node.devices)), key=lambda device: node.devices[device]):
            here = min(count, node.devices[index] // kind.gpus)
            node.devices[index] -= here * kind.gpus
            count -= here
    elif kind.gpus:
        whole = [index for index, left in enumerate(node.devices) if left == UNITS]
        for index in whole[: count * kind.gpus // UNITS]:
            node.devices[index] = 0


@dataclass(slots=True)
class _Program:
    """Rows of `matrix @ x <= limits`, with integers x."""

    rows: list[int]
    columns: list[int]
    values: list[float]
    limits: list[float]

    def add(self, terms: Sequence[tuple[int, float]], limit: float) -> None:
        for column, value in terms:
            self.rows.append(len(self.limits))
            self.columns.append(column)
            self.values.append(value)
        self.limits.append(limit)


def _solve(kinds: Sequence[_Kind], there: Sequence[_Node]) -> bool:
    """The integer program: how many of each kind on each node, and of each share on each GPU."""
    program, upper = _Program([], [], [], []), list[float]()
    placed: list[list[tuple[int, float]]] = [[] for _ in kinds]
    for node in there:
        own = list(range(len(upper), len(upper) + len(kinds)))
        upper += [_room(kind, node) for kind in kinds]
        for number, column in enumerate(own):
            placed[number].append((column, -1.0))
        program.add([(column, kind.cpus) for column, kind in zip(own, kinds, strict=True)], node.cpus)
        program.add([(column, kind.memory) for column, kind in zip(own, kinds, strict=True)], node.memory)
        _add_devices(program, upper, kinds, own, len(node.devices))
        if len(upper) > MAX_VARIABLES:
            return False
    for kind, terms in zip(kinds, placed, strict=True):
        program.add(terms, -kind.count)
    matrix = csr_array((program.values, (program.rows, program.columns)), shape=(len(program.limits), len(upper)))
    found = milp(
        np.zeros(len(upper)),
        integrality=np.ones(len(upper)),
        bounds=Bounds(0, np.asarray(upper)),
        constraints=LinearConstraint(matrix, ub=np.asarray(program.limits)),
        options={"time_limit": SOLVER_SECONDS},
    )
    return bool(found.success)


def _add_devices(
    program: _Program, upper: list[float], kinds: Sequence[_Kind], own: Sequence[int], devices: int
) -> None:
    """GPUs of one node: each is either shared or taken whole, and shares on one add up to one at most."""
    shares = [(kind, column) for kind, column in zip(kinds, own, strict=True) if kind.is_share]
    taken = [(column, float(kind.gpus // UNITS)) for kind, column in zip(kinds, own, strict=True) if kind.gpus >= UNITS]
    on_device: list[list[tuple[int, float]]] = [[(column, 1.0)] for _, column in shares]
    for _ in range(devices if shares else 0):
        is_shared = len(upper)
        columns = range(is_shared + 1, is_shared + 1 + len(shares))
        upper += [1.0, *(float(UNITS // kind.gpus) for kind, _ in shares)]
        taken.append((is_shared, 1.0))
        terms = [(column, float(kind.gpus)) for column, (kind, _) in zip(columns, shares, strict=True)]
        program.add([*terms, (is_shared, -float(UNITS))], 0.0)
        for list_, column in zip(on_device, columns, strict=True):
            list_.append((column, -1.0))
    for terms in on_device:
        program.add(terms, 0.0)
    if taken:
        program.add(taken, float(devices))
