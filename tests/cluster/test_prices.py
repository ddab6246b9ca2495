"""Price tables and clusters: what is wrong gets one line that says where."""

from pathlib import Path

import pytest

from cluster.loads import StageLoad
from cluster.packing import Need, NodeType
from cluster.prices import check_holds, read_cluster, read_prices
from records.errors import UserError

EXAMPLES = Path(__file__).resolve().parents[2] / "cluster"
GOOD = """\
currency: EUR
node_types:
  cpu: {cpus: 16, memory: 64GiB, price_per_hour: 1.5, most: 3}
  gpu: {cpus: 8, gpus: 1, accelerator: L4, memory: 32GB, price_per_hour: 2}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "table.yaml"
    path.write_text(text)
    return str(path)


def test_the_examples_are_read_and_say_that_they_are_invented() -> None:
    prices = read_prices(str(EXAMPLES / "prices.example.yaml"))
    nodes = read_cluster(str(EXAMPLES / "cluster.example.yaml"), prices)
    assert {type_.name: count for type_, count in nodes.items()} == {"cpu-64": 2, "gpu-h100x8": 1}
    assert prices.price_per_hour(nodes) == pytest.approx(2 * 3.0 + 40.0)
    text = (EXAMPLES / "prices.example.yaml").read_text()
    assert "REPLACE EVERY NUMBER" in text
    assert "invented" in text


def test_a_table_holds_what_it_says(tmp_path: Path) -> None:
    prices = read_prices(written(tmp_path, GOOD))
    cpu, gpu = prices.offers
    assert (prices.currency, cpu.most, gpu.most, gpu.price_per_hour) == ("EUR", 3, 16, 2.0)
    assert cpu.type.memory_bytes == int(0.7 * 64 * 2**30)  # Ray's object store has the rest
    assert gpu.type == NodeType(name="gpu", cpus=8, gpus=1, accelerator="L4", memory_bytes=int(0.7 * 32e9))


def test_nodes_of_a_cluster_are_priced_by_what_they_have(tmp_path: Path) -> None:
    prices = read_prices(written(tmp_path, GOOD))
    assert prices.price_per_hour({NodeType(name="16-cpu", cpus=16): 2}) == 3.0
    assert prices.price_per_hour({NodeType(name="8-cpu-1-gpu", cpus=8, gpus=1): 1}) == 2.0
    assert prices.price_per_hour({NodeType(name="?", cpus=8, gpus=1, accelerator="H100"): 1}) is None
    assert prices.price_per_hour({NodeType(name="?", cpus=4): 1}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node_types: [", "is not YAML"),
        ("3", "expected fields"),
        ("node_types: {}", "at least one node type"),
        ("node_type: {}", "did you mean 'node_types'"),
        ("currency: USD", "node_types is missing"),
        ("node_types: {a: {cpus: 1, memory: 1GiB}}", "a: price_per_hour is missing"),
        ("node_types: {a: {cpus: 1, memory: 1GiB, price_per_hor: 1}}", "did you mean 'price_per_hour'"),
        ("node_types: {a: {cpus: 0, memory: 1GiB, price_per_hour: 1}}", "a: cpus must be a number from 1, not 0"),
        ("node_types: {a: {cpus: 1, memory: 1GiB, price_per_hour: -1}}", "price_per_hour must be a number from 0"),
        ("node_types: {a: {cpus: 1, memory: 64, price_per_hour: 1}}", "a: memory must be a size such as 64GiB, not 64"),
        ("node_types: {a: {cpus: 1, gpus: 0.5, memory: 1GiB, price_per_hour: 1}}", "gpus must be a whole number"),
        ("node_types: {a: {cpus: 1, memory: 1GiB, price_per_hour: 1, accelerator: L4}}", "accelerator names the GPUs"),
        ("node_types: {a: {cpus: 1, memory: 1GiB, price_per_hour: 1, most: 0}}", "most must be a whole number from 1"),
        ("node_types: {a: {}, b: {}, a: {}}", "'a' is there twice"),
        ("node_types: {a: 3}", "a: expected fields with values, not 3"),
    ],
)
def test_a_wrong_table_gets_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_prices(written(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes: {cpus: 1}", "no node type 'cpus'; did you mean 'cpu'"),
        ("nodes: {cpu: -1}", "cpu must be a number of nodes, not -1"),
        ("nodes: {cpu: 0}", "there is no node"),
        ("nodes: 3", "nodes must give the number of each node type"),
        ("cpu: 1", "no field 'cpu'; there are nodes"),
    ],
)
def test_a_wrong_cluster_gets_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    prices = read_prices(written(tmp_path, GOOD))
    with pytest.raises(UserError) as error:
        read_cluster(written(tmp_path, text), prices)
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--prices .*none.yaml: No such file"):
        read_prices(str(tmp_path / "none.yaml"))


def test_a_stage_that_no_node_type_holds_is_named_with_what_there_is(tmp_path: Path) -> None:
    prices = read_prices(written(tmp_path, GOOD))
    with pytest.raises(UserError, match=r"holds a worker of caption \(1 CPUs, 2 GPUs and 0.0 GiB\): cpu \(16 CPUs, 45"):
        prices.usable([StageLoad(name="caption", need=Need(cpus=1, gpus=2), seconds=0)])
    with pytest.raises(UserError, match="1 GPUs of H100"):
        check_holds("caption", Need(gpus=1, accelerator="H100"), [one.type for one in prices.offers], "here")
