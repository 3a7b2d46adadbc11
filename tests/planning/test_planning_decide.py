"""From fingerprint and timings to a study: a pure function, held against what it promises."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from planning_data import BACKBONE, FAMILIES, GIB, MEASURED, any_facts, facts, measured, planned, timing, wishes

from vitrail.planning.budget import on_grid
from vitrail.planning.decide import EPOCHS
from vitrail.planning.measure import steady
from vitrail.planning.rules import NEEDS
from vitrail.study import Study


def names(plan):
    return [model.name for model in plan.study.models]


def choice(plan, key):
    return next(one for one in plan.choices if one.key == key)


def cost(plan, what):
    return next(one for one in plan.costs if one.what == what)


# ---------------------------------------------------------------------------------------------------- whatever the data


@given(any_facts(), MEASURED, st.floats(1, 1e5), st.booleans())
@hypothesis_settings(max_examples=25, deadline=None)
def test_the_budget_is_kept_or_said_to_be_too_small(known, times, budget, with_backbone):
    plan = planned(known, times, budget=budget, backbone=BACKBONE if with_backbone else "")
    networks = {
        model.name: plan.study.training_for(model)
        for model in plan.study.models
        if model.name in NEEDS and NEEDS[model.name].epochs
    }
    if plan.remarks:
        assert len(names(plan)) == 1 and not networks
    else:
        assert plan.seconds <= budget
        # With every network ended by its limit, and not a second before, it is kept too.
        epochs = {
            name: settings.epochs
            * (plan.study.preprocess_for(model).size / times.timings[name].size) ** 2
            * (known.training_images * times.timings[name].fit + known.validation * times.timings[name].embed)
            for model in plan.study.models
            if (settings := networks.get(name := model.name))
            for plan_size in [plan.study.preprocess_for(model).size]
            if plan_size
        }
        own_size = [model for model in plan.study.models if model.name in networks and model.name not in epochs]
        epochs |= {
            model.name: networks[model.name].epochs
            * (known.training_images * times.timings[model.name].fit + known.validation * times.timings[model.name].embed)
            for model in own_size
        }
        limits = sum(60 * settings.minutes for settings in networks.values())
        assert plan.seconds - sum(epochs.values()) + limits <= budget + 0.6 * len(networks) + 1e-6
    for name, settings in networks.items():
        assert settings.epochs >= NEEDS[name].epochs and settings.epochs in EPOCHS and settings.minutes > 0
        assert known.fewest_groups >= NEEDS[name].groups


@given(any_facts(), MEASURED, st.floats(1, 1e5))
@hypothesis_settings(max_examples=10, deadline=None)
def test_the_file_reads_back_to_the_planned_study_and_gives_every_reason(known, times, budget):
    plan = planned(known, times, budget=budget)
    text = plan.to_yaml()
    assert Study.from_mapping(yaml.safe_load(text)) == plan.study
    for one in plan.choices:
        assert one.reason in text, one


@given(any_facts(), MEASURED, st.floats(60, 1e5), st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=10, deadline=None)
def test_noise_in_the_timings_changes_nothing(known, times, budget, random):
    kept = steady(times, None)
    noisy = dataclasses.replace(
        kept,
        timings={
            name: dataclasses.replace(one, fit=one.fit * random.uniform(0.8, 1.15), embed=one.embed * random.uniform(0.8, 1.15))
            for name, one in kept.timings.items()
        },
        audit=kept.audit * random.uniform(0.8, 1.15),
    )
    assert planned(known, steady(noisy, kept), budget=budget) == planned(known, kept, budget=budget)


def test_a_timing_that_has_clearly_moved_is_taken():
    kept = steady(measured(), None)
    slower = measured({name: timing(fit=2e-3) for name in FAMILIES})
    assert steady(slower, kept).timings["cnn"].fit == on_grid(2e-3) > 1.5 * kept.timings["cnn"].fit
    assert steady(measured({"cnn": timing(size=64, fit=1.2e-3)}), kept).timings["cnn"].fit != kept.timings["cnn"].fit


# ---------------------------------------------------------------------------------------------------- who is planned


def test_time_for_everything_plans_everything_that_has_enough_groups():
    assert names(planned(budget=1e5)) == [*FAMILIES, "ensemble"]
    few = facts(training_groups={"a": 240, "b": 15})
    assert names(planned(few, budget=1e5)) == ["forest", "probe", "ensemble"]
    assert "it has 15" in cost(planned(few, budget=1e5), "cnn").reason


def test_without_a_backbone_nothing_needs_one():
    plan = planned(backbone="", budget=1e5)
    assert names(plan) == ["forest", "cnn", "boosted", "transformer", "ensemble"]
    assert "--backbone" in cost(plan, "probe").reason


def test_two_models_are_put_together_and_one_is_not():
    alone = planned(times=measured({"forest": timing()}), budget=1e5)
    assert names(alone) == ["forest"]
    times = measured({"forest": timing(embed=0.02), "boosted": timing(embed=0.03)})
    maps_alone = {"gallery": 1, "grade_images": 0, "shortcut_hunt": False}
    both = planned(times=times, study=wishes(explanation=maps_alone), budget=1e5)
    assert names(both) == ["forest", "boosted", "ensemble"]
    assert cost(both, "ensemble").seconds == pytest.approx(2.0 + 2 * 225 * 0.05)
    hunted = planned(times=times, study=wishes(explanation={**maps_alone, "shortcut_hunt": True, "hunt_images": 40}), budget=1e5)
    assert cost(hunted, "ensemble").seconds == pytest.approx(2.0 + 2 * 225 * 0.05 + 40 * (9 + 49) * 0.05)


def test_the_cost_of_a_model_is_the_sum_of_its_parts():
    times = measured({"forest": timing(prepare=0.01, embed=0.02, start=3.0, fit=0.05, maps=False)})
    plan = planned(times=times, study=wishes(explanation={"gallery": 1, "grade_images": 0, "shortcut_hunt": False}))
    every, training, passes = 480 + 120 + 100, 480, 2 * 225
    assert cost(plan, "forest").seconds == pytest.approx(every * 0.03 + 3.0 + training * 0.05 + passes * 0.02 + 2.0)
    assert plan.seconds == pytest.approx(5.0 + 10.0 + cost(plan, "forest").seconds + 8.0)


def test_what_frozen_layers_give_is_paid_once_and_makes_every_epoch_cheaper():
    def finetuned(**changes):
        times = measured({"forest": timing(), "finetune": timing(fit=0.01, **changes)})
        plan = planned(times=times, study=wishes(explanation={"grade_images": 0, "shortcut_hunt": False}), budget=1e5)
        model = next(model for model in plan.study.models if model.name == "finetune")
        return cost(plan, "finetune").seconds, plan.study.training_for(model)

    whole, training = finetuned()
    kept, same = finetuned(once=0.02, check=0.0)
    assert training.epochs == same.epochs
    assert kept - whole == pytest.approx(600 * 0.02 - training.epochs * 120 * 1e-3)
    assert same.minutes - training.minutes == pytest.approx(1.5 * (kept - whole) / 60, abs=0.011)
    with_room, without = (
        planned(times=measured({"forest": timing(), "finetune": timing(fit=0.01, once=one)})) for one in (0.0, 10.0)
    )
    assert "finetune" in names(with_room) and "finetune" not in names(without)


def test_new_timings_of_frozen_layers_settle_as_others_do():
    kept = steady(measured({"finetune": timing(once=0.01, check=0.002)}), None)
    again = steady(measured({"finetune": timing(once=0.012, check=0.0024)}), kept)
    assert again.timings == kept.timings
    assert kept.timings["finetune"].once == on_grid(0.01) and kept.timings["finetune"].check == on_grid(0.002)
    moved = steady(measured({"finetune": timing(once=0.03, check=0.004)}), kept).timings["finetune"]
    assert (moved.once, moved.check) == (on_grid(0.03), on_grid(0.004))


def test_the_hunt_for_shortcuts_is_in_the_cost():
    def seconds(*, maps, hunt):
        times = measured({"forest": timing(embed=0.02, maps=maps)})
        wished = {"gallery": 1, "grade_images": 0, "shortcut_hunt": hunt, "hunt_images": 50}
        return cost(planned(times=times, study=wishes(explanation=wished)), "forest").seconds

    assert seconds(maps=True, hunt=True) - seconds(maps=True, hunt=False) == pytest.approx(50 * 9 * 0.02)
    assert seconds(maps=False, hunt=True) - seconds(maps=False, hunt=False) == pytest.approx(50 * 58 * 0.02)


def test_grading_explanations_has_its_share_of_the_budget_and_no_more():
    times = measured({"forest": timing(embed=0.02)})
    with_grades, without = (
        planned(times=times, study=wishes(explanation={"gallery": 1, "grade_images": number}), budget=1200) for number in (64, 0)
    )
    of_maps = 2 * 200 * 0.02
    assert cost(with_grades, "forest").seconds - cost(without, "forest").seconds == pytest.approx(0.03 * 1200 + of_maps)
    assert with_grades.study.explanation.grade_minutes == pytest.approx(0.6)
    assert "explanation.grade_minutes" in {choice.key for choice in with_grades.choices}
    assert without.study.explanation.grade_minutes == 2 and planned(times=times, budget=1e5).study.explanation.grade_minutes == 2
    quick = planned(times=measured({"forest": timing(embed=1e-5)}), budget=1200)
    assert cost(quick, "forest").seconds < cost(without, "forest").seconds


def test_fewer_seconds_give_fewer_epochs_then_smaller_images_then_no_network():
    slow = measured({"forest": timing(), "cnn": timing(size=128, fit=0.02)})

    def cnn(budget):
        plan = planned(times=slow, study=wishes(explanation={"grade_images": 0, "shortcut_hunt": False}), budget=budget)
        model = next((model for model in plan.study.models if model.name == "cnn"), None)
        return model and (plan.study.training_for(model).epochs, plan.study.preprocess_for(model).size)

    assert cnn(1e5) == (96, 128)  # 480 images in batches of 16 are 30 steps: 2,000 steps are 67 epochs, 96 the next that may be
    assert cnn(600) == (48, 128)  # of 9.7 s each
    assert cnn(120)[1] < 128 and cnn(120)[0] >= 8
    assert cnn(50) is None


def test_epochs_that_the_user_asked_for_are_planned_all_or_the_network_is_left_out():
    slow = measured({"forest": timing(), "cnn": timing(size=128, fit=0.02)})
    asked = {"explanation": {"grade_images": 0, "shortcut_hunt": False}, "training": {"epochs": 48}, "preprocess": {"size": 128}}
    enough = planned(times=slow, study=wishes(**asked), budget=600)
    cnn = next(model for model in enough.study.models if model.name == "cnn")
    assert enough.study.training_for(cnn).epochs == 48 and 48 * 9.7 < enough.seconds <= 600
    assert names(planned(times=slow, study=wishes(**asked), budget=300)) == ["forest"]


def test_a_choice_that_a_timing_overrules_is_told_once_with_the_last_reason():
    slow = measured({"forest": timing(), "cnn": timing(size=128, fit=0.02)})
    plan = planned(times=slow, budget=120)
    (size,) = [one for one in plan.choices if one.key == "models.cnn.preprocess.size"]
    assert size.kind == "measured" and size.value < 128 and size.reason in plan.to_yaml()


def test_a_budget_too_small_for_anything_plans_the_cheapest_and_says_so():
    plan = planned(measured_ := None, budget=1.0)
    assert measured_ is None and names(plan) == ["forest"]
    assert any("too small for anything" in remark for remark in plan.remarks)
    assert cost(plan, "forest").planned and plan.seconds > 1.0


def test_a_model_that_does_not_fit_into_memory_is_left_out():
    times = measured({"forest": timing(), "cnn": timing(memory=14 * GIB)})
    plan = planned(times=times, budget=1e5)
    assert names(plan) == ["forest"] and "GiB of memory" in cost(plan, "cnn").reason


def test_what_could_not_be_measured_is_left_out_with_the_reason():
    times = measured({"forest": timing()}, failures={"probe": "weights are damaged"})
    plan = planned(times=times)
    assert cost(plan, "probe").reason == "weights are damaged"
    assert "too little time" in cost(plan, "cnn").reason


# ---------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(("side", "size"), [(20, 32), (64, 64), (100, 96), (200, 96), (256, 128), (2000, 128)])
def test_networks_see_no_more_pixels_than_the_images_have(side, size):
    assert choice(planned(facts(side=side)), "models.cnn.preprocess.size").value == size


def test_rules_follow_what_they_see():
    colour = planned(facts(coloured=0.4, training={"a": 400, "b": 80}), budget=1e5)
    cnn = next(model for model in colour.study.models if model.name == "cnn")
    assert (cnn.preprocess.colour, cnn.training.imbalance) == ("rgb", "weights")
    even = next(model for model in planned(budget=1e5).study.models if model.name == "cnn")
    assert (even.preprocess.colour, even.training.imbalance, even.training.batch_size) == ("grey", "none", 16)
    many = planned(facts(training={"a": 2000, "b": 2000}), budget=1e5)
    assert next(model for model in many.study.models if model.name == "cnn").training.batch_size == 32


def test_images_are_mirrored_only_where_they_have_no_sides():
    assert not planned(facts(modality="X-ray", hint="'xray' in the folder's name")).study.augment.flip_horizontal
    assert "side" in choice(planned(), "augment.flip_horizontal").reason
    slides = planned(facts(modality="microscopy", hint="'histology' in the folder's name")).study.augment
    assert slides.flip_horizontal and slides.flip_vertical


def test_what_the_audit_finds_to_give_the_label_away_is_changed_more_in_training():
    plain, warned = planned().study.augment, planned(facts(shortcuts=("SHC501", "SHC502", "SHC503", "SHC506")))
    changed = warned.study.augment
    for name in ("stretch", "zoom", "translation", "brightness", "contrast"):
        assert getattr(changed, name) > getattr(plain, name)
    assert "the audit's SHC501" in choice(warned, "augment.stretch").reason
    assert planned(facts(shortcuts=("SHC505",))).study.augment == plain
    asked = planned(facts(shortcuts=("SHC501",)), study=wishes(augment={"stretch": 0.1}))
    assert asked.study.augment.stretch == 0.1 and choice(asked, "augment.stretch").kind == "given"


@pytest.mark.parametrize(("groups", "share"), [(30, 0.3), (90, 0.25), (110, 0.2), (5000, 0.15)])
def test_the_smaller_the_smallest_class_the_larger_the_share_that_validates(groups, share):
    assert choice(planned(facts(groups={"a": 9000, "b": groups})), "split.validation").value == share


def test_what_the_user_sets_stays():
    study = wishes(
        seed=7,
        preprocess={"size": 48},
        training={"epochs": 5, "batch_size": 8, "imbalance": "sampling", "minutes": 2.0},
        split={"validation": 0.1},
        augment={"flip_horizontal": True},
    )
    plan = planned(study=study, budget=1e5)
    cnn = next(model for model in plan.study.models if model.name == "cnn")
    resolved = plan.study.training_for(cnn)
    assert (resolved.epochs, resolved.batch_size, resolved.imbalance, resolved.minutes) == (5, 8, "sampling", 2.0)
    assert (plan.study.seed, plan.study.preprocess_for(cnn).size, plan.study.split.validation) == (7, 48, 0.1)
    assert plan.study.augment.flip_horizontal and choice(plan, "augment.flip_horizontal").kind == "given"


def test_a_pretrained_network_settles_within_its_epochs_unless_the_user_says_otherwise():
    def resolved(**training):
        study = planned(study=wishes(training=training), budget=1e5).study
        return study.training_for(next(model for model in study.models if model.name == "finetune"))

    assert (resolved().schedule, resolved().average) == ("cosine", 0.99)
    asked = resolved(schedule="plateau", average=0.0)
    assert (asked.schedule, asked.average) == ("plateau", 0.0)
