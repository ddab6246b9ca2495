"""Overrides replace what they name and nothing else, and a slip is told with the nearest name."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.nodes import NodeGroup
from pipeline.config import apply_overrides, parse_settings, read_overrides
from pipeline.recipes import paper, recipe, tiny
from records.errors import UserError


def test_no_override_changes_nothing() -> None:
    assert apply_overrides(tiny(), {}) == tiny()


def test_a_nested_field_is_replaced_and_its_neighbours_are_kept() -> None:
    config = apply_overrides(tiny(), parse_settings(["caption.sampling.max_tokens=7", "decode.fps=1"]))
    assert config.caption.sampling.max_tokens == 7
    assert config.decode.fps == 1.0
    assert config.caption.engine == tiny().caption.engine
    assert config.transcribe == tiny().transcribe


def test_engine_arguments_are_added_to_those_of_the_recipe() -> None:
    arguments = apply_overrides(
        tiny(), parse_settings(["caption.engine.engine_args.seed=3"])
    ).caption.engine.engine_args
    assert arguments == {**tiny().caption.engine.engine_args, "seed": 3}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("caption.promt=x", "no setting 'caption.promt'; did you mean 'caption.prompt'"),
        ("decod.fps=1", "no setting 'decod'; did you mean 'decode'"),
        ("xyz=1", "no setting 'xyz'; the config has"),
        ("decode.fps=abc", "decode.fps: .*valid number.* not 'abc'"),
        ("decode.fps=-1", "fps must be positive"),
        ("caption.pool.accelerator_type=H100", "^caption.pool: accelerator_type needs num_gpus"),
        ("node_groups=[{name: a, max_nodes: 2, cpus: 3, gpu: 1}]", "no setting 'node_groups.0.gpu'"),
        ("node_groups=[{name: a, max_nodes: 2, cpus: 3, gpus: .5}]", "node_groups.0: .*whole number, not 0.5"),
        ("node_groups=[{name: a, max_nodes: 2, cpus: 3, accelerator_type: L4}]", "accelerator_type names the GPUs"),
        ("node_groups=[{name: a, max_nodes: 2, cpus: 3}, {name: a, max_nodes: 1, cpus: 3}]", "'a' is there twice"),
        ("node_groups=[{name: a, max_nodes: 2, cpus: 3, cpus: 4}]", "node_groups: .* not .*cpus: 3, cpus: 4"),
        ("decode=3", "decode: expected fields with values"),
        ("decode.fps", "expected key=value"),
        ("stages=[decode, captions]", "'captions' is none of"),
        ("embed.dtype=int8", "embed.dtype: .*'float16' or 'float32'"),
        ("local_ray.num_cpus=0", "num_cpus must be at least 1"),
    ],
)
def test_a_slip_is_told_in_one_line(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        apply_overrides(tiny(), parse_settings([setting]))
    assert "\n" not in str(caught.value)


def test_a_yaml_file_overrides_and_its_faults_are_told(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("decode:\n  fps: 1\nshard_size: 9\n")
    config = apply_overrides(tiny(), read_overrides(str(good)))
    assert (config.decode.fps, config.shard_size) == (1.0, 9)
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert read_overrides(str(empty)) == {}
    for text, message in [
        ("- a\n", "expected fields"),
        ("a: [", "is not YAML"),
        ("decode:\n  fps: 1\ndecode:\n  fps: 2\n", "'decode' is there twice .*line 3"),
    ]:
        bad = tmp_path / "bad.yaml"
        bad.write_text(text)
        with pytest.raises(UserError, match=message):
            read_overrides(str(bad))
    with pytest.raises(UserError, match="No such file"):
        read_overrides(str(tmp_path / "none.yaml"))


def test_an_unknown_recipe_is_told_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no recipe 'tinny'; choose one of tiny, small, paper, modern"):
        recipe("tinny")


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_of_a_setting_is_parsed_or_refused_and_never_breaks(key: str, value: str) -> None:
    with contextlib.suppress(UserError):
        apply_overrides(tiny(), parse_settings([f"{key}={value}"]))


def test_node_groups_and_what_a_pool_asks_of_its_nodes_come_from_yaml() -> None:
    pool = {"num_gpus": 0.5, "accelerator_type": "H100", "node_labels": {"zone": "!eu"}}
    group = {"name": "gpu", "max_nodes": 4, "cpus": 16, "gpus": 1, "accelerator_type": "H100"}
    config = apply_overrides(tiny(), {"node_groups": [group], "caption": {"pool": pool}})
    assert config.node_groups == (NodeGroup(name="gpu", max_nodes=4, cpus=16, gpus=1, accelerator_type="H100"),)
    assert (config.caption.pool.accelerator_type, config.caption.pool.node_labels) == ("H100", {"zone": "!eu"})
    with pytest.raises(UserError, match="share of one GPU or a whole number"):
        apply_overrides(tiny(), {"caption": {"pool": {"num_gpus": 1.5}}})
    with pytest.raises(UserError, match="max_nodes"):
        apply_overrides(tiny(), {"node_groups": [{**group, "max_nodes": 0}]})


def test_fields_that_must_fit_each_other_may_come_from_two_places() -> None:
    engine = {"caption": {"engine": {"tensor_parallel_size": 2, "max_model_len": 4096}}}
    pool = {"caption": {"pool": {"num_gpus": 2}, "engine": {"max_model_len": 8192}}}
    with pytest.raises(UserError, match="the engine takes 2 GPUs"):
        apply_overrides(paper(), engine)
    caption = apply_overrides(paper(), engine, pool).caption
    assert (caption.engine.tensor_parallel_size, caption.engine.max_model_len, caption.pool.num_gpus) == (2, 8192, 2)
    assert apply_overrides(paper(), pool, {}, {"caption": {"pool": {"num_gpus": 0.5}}}).caption.pool.num_gpus == 0.5
