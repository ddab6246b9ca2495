"""The user's own tables: what nodes cost (`--prices`), and which of them a cluster has (`--cluster`)."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.cheapest import Offer
from cluster.loads import StageLoad
from cluster.packing import Need, Nodes, NodeType
from records.errors import UserError
from records.yaml_text import load_yaml

RAY_MEMORY_SHARE = 0.7
"""Of a node's memory: Ray gives 30 % to its object store unless told otherwise (docs of `ray start`)."""
DEFAULT_MOST = 16
"""Nodes of one type where `most` does not say."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)")
_BYTES = {
    f"{letter}{i}B": base**power for power, letter in enumerate("KMGT", 1) for i, base in (("", 1000), ("i", 1024))
}
_FIELDS = ("cpus", "memory", "price_per_hour", "gpus", "accelerator", "most")
_REQUIRED = _FIELDS[:3]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """What nodes cost."""

    currency: str
    offers: tuple[Offer, ...]

    def offer(self, name: str) -> Offer:
        """The node type of that name.

        Raises:
            UserError: There is none; names the nearest.
        """
        for offer in self.offers:
            if offer.type.name == name:
                return offer
        names = [offer.type.name for offer in self.offers]
        raise UserError(f"the price table has no node type {name!r}{_nearest(name, names)}")

    def price_per_hour(self, nodes: Nodes) -> float | None:
        """What a cluster costs an hour; None where a node is of no type that the table has.

        A node is of the type of its name, else of the only one with its CPUs, GPUs and accelerator.
        """
        total = 0.0
        for node, count in nodes.items():
            prices = {offer.price_per_hour for offer in self.offers if _is_alike(offer.type, node)}
            named = {offer.price_per_hour for offer in self.offers if offer.type.name == node.name}
            if len(named or prices) != 1:
                return None
            total += count * (named or prices).pop()
        return total

    def usable(self, loads: Sequence[StageLoad]) -> "PriceTable":
        """The table, once it is clear that each stage has a node type that holds it.

        Raises:
            UserError: A stage has none.
        """
        for load in loads:
            check_holds(load.name, load.need, [offer.type for offer in self.offers], "in the price table")
        return self


def check_holds(stage: str, need: Need, types: Sequence[NodeType], where: str) -> None:
    """Sees that some node type holds one worker of a stage.

    Raises:
        UserError: None does; says what it asks for and what the nodes have.
    """
    if any(type_.holds(need) for type_ in types):
        return
    gpus = f"{need.gpus:g} GPUs" + (f" of {need.accelerator}" if need.accelerator else "")
    wanted = f"{need.cpus:g} CPUs, {gpus} and {need.memory_bytes / 2**30:.1f} GiB"
    raise UserError(
        f"no node type {where} holds a worker of {stage} ({wanted}): {', '.join(map(_text, types)) or 'none'}"
    )


def read_prices(path: str) -> PriceTable:
    """The price table of a file.

    Raises:
        UserError: It cannot be read, or a field is missing, unknown or out of range.
    """
    table = _read(path, "--prices")
    _check_fields(table, ("currency", "node_types"), ("node_types",), f"--prices {path}")
    types = table["node_types"]
    if not isinstance(types, Mapping) or not types:
        raise UserError(f"--prices {path}: node_types must name at least one node type")
    offers = [_offer(str(name), fields, f"--prices {path}: {name}") for name, fields in types.items()]
    return PriceTable(currency=str(table.get("currency", "")), offers=tuple(offers))


def read_cluster(path: str, prices: PriceTable) -> Nodes:
    """The nodes of a file: `nodes`, with the number of each node type of the price table.

    Raises:
        UserError: It cannot be read, names a type that the table does not have, or has no node.
    """
    table = _read(path, "--cluster")
    _check_fields(table, ("nodes",), ("nodes",), f"--cluster {path}")
    counts = table["nodes"]
    if not isinstance(counts, Mapping):
        raise UserError(f"--cluster {path}: nodes must give the number of each node type")
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise UserError(f"--cluster {path}: {name} must be a number of nodes, not {count!r}")
    nodes = {prices.offer(str(name)).type: count for name, count in counts.items() if count}
    if not nodes:
        raise UserError(f"--cluster {path}: there is no node")
    return nodes


def _read(path: str, option: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            loaded = load_yaml(file)
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{option} {path}: expected fields with values")
    return loaded


def _check_fields(found: Any, known: Sequence[str], required: Sequence[str], where: str) -> None:  # noqa: ANN401 - of YAML
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: expected fields with values, not {found!r}")
    for name in found:
        if name not in known:
            raise UserError(f"{where}: no field {str(name)!r}{_nearest(str(name), known)}")
    for name in required:
        if name not in found:
            raise UserError(f"{where}: {name} is missing")


def _offer(name: str, fields: Any, where: str) -> Offer:  # noqa: ANN401 - of YAML
    _check_fields(fields, _FIELDS, _REQUIRED, where)
    gpus = _number(fields.get("gpus", 0), f"{where}: gpus", least=0)
    if gpus != int(gpus):
        raise UserError(f"{where}: gpus must be a whole number, not {gpus:g}")
    accelerator = fields.get("accelerator")
    if accelerator is not None and (not isinstance(accelerator, str) or not gpus):
        raise UserError(f"{where}: accelerator names the GPUs of a node that has some")
    most = fields.get("most", DEFAULT_MOST)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise UserError(f"{where}: most must be a whole number from 1, not {most!r}")
    memory_bytes = _bytes(fields["memory"], f"{where}: memory")
    type_ = NodeType(
        name=name,
        cpus=_number(fields["cpus"], f"{where}: cpus", least=1),
        gpus=int(gpus),
        accelerator=accelerator,
        memory_bytes=int(memory_bytes * RAY_MEMORY_SHARE),
    )
    price = _number(fields["price_per_hour"], f"{where}: price_per_hour", least=0)
    return Offer(type=type_, price_per_hour=price, most=most)


def _number(value: Any, where: str, *, least: float) -> float:  # noqa: ANN401 - of YAML
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
        raise UserError(f"{where} must be a number from {least:g}, not {value!r}")
    return float(value)


def _bytes(value: Any, where: str) -> float:  # noqa: ANN401 - of YAML
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UserError(f"{where} must be a size such as 64GiB, not {value!r}")
    return float(match[1]) * int(_BYTES[match[2]])


def _is_alike(offered: NodeType, node: NodeType) -> bool:
    same_gpu = None in (offered.accelerator, node.accelerator) or offered.accelerator == node.accelerator
    return same_gpu and (offered.cpus, offered.gpus) == (node.cpus, node.gpus)


def _text(type_: NodeType) -> str:
    gpus = f", {type_.gpus} {type_.accelerator or 'GPUs'}" if type_.gpus else ""
    return f"{type_.name} ({type_.cpus:g} CPUs{gpus}, {type_.memory_bytes / 2**30:.0f} GiB for workers)"


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
