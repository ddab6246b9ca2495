"""Which stages a change of the config makes pending, from the real configs and the tiny models."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.assemble import build_specs
from pipeline.config import apply_overrides, parse_settings
from pipeline.recipes import RECIPES, tiny
from records.errors import UserError
from records.outcomes import STAGES


def changed_stages(*settings: str) -> set[str]:
    before = build_specs(tiny())
    after = build_specs(apply_overrides(tiny(), parse_settings(settings)))
    assert list(before) == list(after)
    return {name for name in before if before[name].fingerprint != after[name].fingerprint}


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        (["caption.prompt=What is funny here?"], {"caption", "embed"}),
        (["caption.sampling.max_tokens=99"], {"caption", "embed"}),
        (["caption.engine.engine_args.seed=7"], {"caption", "embed"}),
        (["describe_audio.prompt=What is heard?"], {"describe_audio", "embed"}),
        (["transcribe.beam_size=2"], {"transcribe", "embed"}),
        (["tag_audio.top_k=3"], {"tag_audio", "embed"}),
        (["embed.overflow=cut"], {"embed"}),
        (["embed.dtype=float16"], {"embed"}),
        (["decode.fps=1"], {"decode", "caption", "embed"}),
        (["decode.audio_max_seconds=60"], {"decode", "transcribe", "describe_audio", "tag_audio", "embed"}),
        (["caption.pool.batch_rows=3", "caption.pool.calls=7", "embed.batch_size=5"], set()),
        (["decode.timeout_seconds=9", "decode.max_bytes=999", "fetch.max_bytes=999"], set()),
        (["graph.block_rows=2", "shard_size=7", "loop.journal_seconds=5", "breaker.max_error_share=0.5"], set()),
        (["caption.engine.engine_args.max_num_seqs=2", "caption.engine.engine_args.enforce_eager=false"], set()),
    ],
)
def test_a_change_reaches_the_stages_that_depend_on_it_and_no_other(settings: list[str], stages: set[str]) -> None:
    assert changed_stages(*settings) == stages


def test_another_model_changes_its_stage_and_what_reads_it() -> None:
    config = tiny()
    engine = replace(config.caption.engine, model="tiny:qwen3_vl")
    other = build_specs(replace(config, caption=replace(config.caption, engine=engine)))
    before = build_specs(config)
    # Qwen3-VL cuts frames into other patches, so that decode makes others.
    assert {name for name in before if before[name].fingerprint != other[name].fingerprint} == {
        "decode",
        "caption",
        "embed",
    }


def test_leaving_a_stage_out_changes_the_documents_and_nothing_else() -> None:
    config = tiny()
    fewer = build_specs(replace(config, stages=("decode", "caption", "transcribe", "embed")))
    before = build_specs(config)
    assert list(fewer) == ["decode", "caption", "transcribe", "embed"]
    assert fewer["embed"].reads == ("caption", "transcribe")
    assert {name for name in fewer if before[name].fingerprint != fewer[name].fingerprint} == {"embed"}


def test_every_stage_is_there_upstream_first_with_what_it_reads() -> None:
    specs = build_specs(tiny())
    assert tuple(specs) == STAGES
    assert specs["embed"].reads == ("caption", "transcribe", "describe_audio", "tag_audio")
    assert {name: spec.modality for name, spec in specs.items() if spec.modality} == {
        "caption": "video",
        "transcribe": "audio",
        "describe_audio": "audio",
        "tag_audio": "audio",
    }
    assert len({spec.fingerprint for spec in specs.values()}) == len(specs)
    assert {name for name in specs if specs[name].prepare is not None} == {"caption", "describe_audio"}


def test_a_model_that_is_nowhere_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="no such folder"):
        build_specs(apply_overrides(tiny(), {"embed": {"model": "./nowhere"}}))


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_is_a_full_config_that_overrides_leave_intact(name: str) -> None:
    config: Any = RECIPES[name]()
    assert apply_overrides(config, {"shard_size": config.shard_size}) == config
