"""Planning finds exactly what `make` would: missing files, stale files, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan import NONE, as_array, next_generation
from pipeline.spec import select_specs
from records.errors import UserError
from tests.pipeline.light import SPECS, MemoryTables, plan_for, tasks_by_shard


def with_files(**generations: dict[int, int]) -> MemoryTables:
    tables = MemoryTables()
    for stage, of_shards in generations.items():
        for shard, generation in of_shards.items():
            tables.files[stage, SPECS[stage].fingerprint, f"{shard:08d}", generation] = []
    return tables


def test_an_empty_output_needs_everything_at_generation_0() -> None:
    tasks = tasks_by_shard(plan_for(MemoryTables(), 2))
    assert [task.targets for task in tasks.values()] == [{"decode": 0, "caption": 0, "embed": 0}] * 2


def test_a_finished_output_needs_nothing() -> None:
    done = with_files(decode={0: 0}, caption={0: 0}, embed={0: 0})
    assert plan_for(done, 1).pending_shards == 0


def test_a_changed_prompt_runs_caption_and_embed_only() -> None:
    done = with_files(decode={0: 0}, caption={0: 0}, embed={0: 0})
    specs = dict(SPECS)
    specs["caption"] = replace(SPECS["caption"], fingerprint="c2")
    specs["embed"] = replace(SPECS["embed"], fingerprint="e2")
    (task,) = plan_for(done, 1, specs=specs).tasks()
    assert task.targets == {"caption": 0, "embed": 0}
    assert task.existing == {"decode": 0}


def test_a_newer_upstream_makes_what_reads_it_stale_at_that_generation() -> None:
    (task,) = plan_for(with_files(decode={0: 0}, caption={0: 4}, embed={0: 2}), 1).tasks()
    assert task.targets == {"embed": 4}
    assert task.existing["embed"] == 2


def test_a_deleted_file_comes_back_above_what_was_made_from_it() -> None:
    done = with_files(decode={0: 0, 1: 0}, caption={1: 0}, embed={0: 3, 1: 3})
    done.files["embed", "an older encoder", "00000000", 5] = []
    (task,) = plan_for(done, 2).tasks()
    assert (task.shard_id, task.targets) == ("00000000", {"caption": 6, "embed": 6})
    (task,) = plan_for(with_files(caption={0: 0}, embed={0: 0}), 1).tasks()
    assert task.targets == {"decode": 1, "caption": 1, "embed": 1}


def test_other_settings_of_one_stream_leave_what_takes_the_other_as_it_is() -> None:
    """A frame rate changes the fingerprints of decode, of what sees, and of what is made from that; and back again."""
    sound = {"transcribe": replace(SPECS["caption"], name="transcribe", fingerprint="t1", modality="audio")}
    before = {**SPECS, "embed": replace(SPECS["embed"], reads=("caption", "transcribe"))}
    before = {"decode": before["decode"], "caption": before["caption"], **sound, "embed": before["embed"]}
    after = {name: replace(spec, fingerprint=f"{spec.fingerprint}-2fps") for name, spec in before.items()} | sound
    done = MemoryTables()
    for name, spec in before.items():
        done.files[name, spec.fingerprint, "00000000", 0] = []
    (task,) = plan_for(done, 1, specs=after).tasks()
    assert task.targets == {"decode": 0, "caption": 0, "embed": 0}
    for name, spec in after.items():
        done.files[name, spec.fingerprint, "00000000", 0] = []
    for specs in (before, after):
        assert plan_for(done, 1, specs=specs).pending_shards == 0


def test_edited_metadata_runs_embed_only() -> None:
    done = with_files(decode={0: 0, 1: 0}, caption={0: 0, 1: 0}, embed={0: 0, 1: 0})
    (task,) = plan_for(done, 2, metadata={0: 0, 1: 1}).tasks()
    assert (task.shard_id, task.targets, task.metadata_generation) == ("00000001", {"embed": 1}, 1)


def test_a_stage_whose_input_is_missing_and_not_selected_is_counted_as_blocked() -> None:
    plan = plan_for(with_files(decode={0: 0}), 2, selected=["embed"])
    assert plan.pending_shards == 0
    assert plan.blocked == {"embed": 2}


def test_a_retry_lifts_the_stage_and_its_readers_above_every_generation_ever_seen() -> None:
    done = with_files(decode={0: 0}, caption={0: 0}, embed={0: 0})
    done.files["embed", "an older encoder", "00000000", 7] = []
    plan = plan_for(done, 1, retry={"caption": {0: frozenset({"timeout"})}})
    (task,) = plan.tasks()
    assert task.targets == {"caption": 8, "embed": 8}
    assert task.retry == {"caption": frozenset({"timeout"})}
    # Going back to the older encoder must not find its old file fresh.
    done.files["caption", "c1", "00000000", 8] = []
    back = dict(SPECS) | {"embed": replace(SPECS["embed"], fingerprint="an older encoder")}
    assert tasks_by_shard(plan_for(done, 1, specs=back))["00000000"].targets == {"embed": 8}


def test_a_retry_runs_nothing_that_is_missing_or_stale_for_another_reason() -> None:
    files = {"decode": {0: 0, 1: 0, 3: 0}, "caption": {0: 0, 3: 0}, "embed": {0: 0}}
    done = with_files(**files)
    retry = {"caption": {0: frozenset({"timeout"})}}
    assert {shard: task.targets for shard, task in tasks_by_shard(plan_for(done, 4, retry=retry)).items()} == {
        "00000000": {"caption": 1, "embed": 1}
    }
    assert plan_for(done, 4, metadata={0: 5}, retry={}).pending_shards == 0
    assert plan_for(done, 4).pending_shards == 3
    decoded = plan_for(done, 4, retry={"decode": {1: frozenset({"timeout"})}})
    assert tasks_by_shard(decoded)["00000001"].targets == {"decode": 1}, "its caption was missing before"


def test_a_retry_in_phases_ends_with_what_was_made_from_it_and_nothing_else() -> None:
    done = with_files(decode={0: 0, 1: 0}, caption={0: 0}, embed={0: 0})
    whole = plan_for(done, 2, retry={"caption": {0: frozenset({"timeout"})}})
    done.files["caption", SPECS["caption"].fingerprint, "00000000", 1] = []
    later = plan_for(done, 2, selected=["embed"], metadata={1: 3}, retry={}, whole=whole)
    assert {shard: task.targets for shard, task in tasks_by_shard(later).items()} == {"00000000": {"embed": 1}}


def test_the_next_metadata_generation_is_above_every_file_of_the_shard() -> None:
    tables = with_files(decode={0: 0, 1: 0}, embed={0: 3})
    above = next_generation(tables, as_array([(1, 5)], 2))
    assert [above("00000000"), above("00000001"), above("00000002")] == [4, 6, 0]


@settings(deadline=None)
@given(
    files=st.dictionaries(
        st.tuples(st.sampled_from(["decode", "caption", "embed"]), st.integers(0, 4)), st.integers(0, 3)
    ),
    metadata=st.dictionaries(st.integers(0, 4), st.integers(0, 3)),
    returned=st.dictionaries(st.integers(0, 4), st.integers(0, 3)),
    selected=st.sets(st.sampled_from(["decode", "caption", "embed"]), min_size=1),
)
def test_a_plan_agrees_with_make_and_its_execution_leaves_nothing(
    files: dict[tuple[str, int], int], metadata: dict[int, int], returned: dict[int, int], selected: set[str]
) -> None:
    tables = MemoryTables()
    for (stage, shard), generation in files.items():
        tables.files[stage, SPECS[stage].fingerprint, f"{shard:08d}", generation] = []
    plan = plan_for(tables, 5, selected=selected, metadata=metadata, returned=returned)
    for shard in range(5):
        after: dict[str, int] = {}
        seen = [generation for (_, of), generation in files.items() if of == shard]
        highest = max([0, metadata.get(shard, 0), returned.get(shard, 0), *seen])
        for stage, reads in (("decode", ()), ("caption", ("decode",)), ("embed", ("caption",))):
            have = files.get((stage, shard), NONE)
            inputs = [after[read] for read in reads] + ([metadata.get(shard, 0)] if stage == "embed" else [])
            inputs.append(returned.get(shard, 0))
            readers = {"decode": ("caption", "embed"), "caption": ("embed",), "embed": ()}[stage]
            if have == NONE and any((reader, shard) in files for reader in readers):
                inputs.append(highest + 1)  # what was made from the file that is gone is old
            stale = stage in selected and NONE not in inputs and have < max([0, *inputs])
            assert plan.targets.get(stage, np.full(5, NONE))[shard] == (max([0, *inputs]) if stale else NONE)
            after[stage] = max([0, *inputs]) if stale else have
    for task in plan.tasks():
        for stage, generation in task.targets.items():
            key = (stage, SPECS[stage].fingerprint, task.shard_id, generation)
            assert key not in tables.files
            tables.files[key] = []
    again = plan_for(tables, 5, selected=selected, metadata=metadata, returned=returned)
    assert again.pending_shards == 0


def test_a_shard_to_which_items_came_back_is_looked_at_by_every_stage() -> None:
    done = with_files(decode={0: 0, 1: 0}, caption={0: 0, 1: 2}, embed={0: 0, 1: 2})
    (task,) = plan_for(done, 2, returned={1: 3}).tasks()
    assert (task.shard_id, task.targets) == ("00000001", {"decode": 3, "caption": 3, "embed": 3})
    for stage in SPECS:
        done.files[stage, SPECS[stage].fingerprint, "00000001", 3] = []
    assert plan_for(done, 2, returned={1: 3}).pending_shards == 0


def test_selecting_a_media_stage_selects_decode_and_a_wrong_name_is_told() -> None:
    assert list(select_specs(SPECS, ["caption"])) == ["decode", "caption"]
    assert list(select_specs(SPECS, ["embed"])) == ["embed"]
    with pytest.raises(UserError, match="no stage 'captoin'"):
        select_specs(SPECS, ["captoin"])
