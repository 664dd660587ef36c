"""The space of methods: every published one is a point in it, others are written in brackets, contradictions are refused."""

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies

from distreal_jax.errors import InputError
from distreal_jax.experiment import parsed_list
from distreal_jax.methods import CHOICES, METHODS, Method, method_named, methods_named


def test_every_method_of_the_comparison_is_there() -> None:
    assert set(METHODS) == {
        "distreal",
        "distreal_uniform",
        "federated_dropout",
        "heterofl",
        "fjord",
        "fedrolex",
        "small_network",
        "small_ensemble",
        "drop_stragglers",
        "partial_work",
        "adaptive_batch",
        "fedprox",
        "fednova",
        "full_resources",
        "cocofl",
        "timelyfl",
        "salf",
        "slt",
        "filter_norms",
        "fluid",
        "shuffled_partition",
        "fedgmr",
    }
    for name, method in METHODS.items():
        assert method.name == name and method.source and method_named(name) is method


def test_no_two_methods_are_the_same_point() -> None:
    points = {dataclasses.replace(method, name="", source="") for method in METHODS.values()}
    assert len(points) == len(METHODS)


def test_what_the_papers_say() -> None:
    distreal = METHODS["distreal"]
    assert (distreal.rates, distreal.filters, distreal.drawn, distreal.decided) == ("table", "random", "step", "step")
    assert distreal.average == "all" and distreal.unfinished == "upload"
    heterofl = METHODS["heterofl"]
    assert heterofl.rates == "halving" and heterofl.filters == "first" and heterofl.masked_loss
    assert heterofl.label_rows and METHODS["fedrolex"].masked_loss and METHODS["fedrolex"].label_rows
    assert METHODS["fjord"].below_cap and METHODS["fedrolex"].filters == "rolling"
    assert METHODS["fedprox"] == dataclasses.replace(
        METHODS["partial_work"], name="fedprox", source=METHODS["fedprox"].source, proximal=True
    )
    assert METHODS["fednova"].average == "normalised" and not METHODS["fednova"].by_steps
    assert [name for name, method in METHODS.items() if not method.limited] == ["full_resources"]


def test_other_choices_are_written_in_brackets() -> None:
    named = method_named("distreal[filters=first,drawn=round]")
    assert named == dataclasses.replace(
        METHODS["distreal"], name="distreal[filters=first,drawn=round]", filters="first", drawn="round"
    )
    assert not method_named("partial_work[by_steps=false]").by_steps
    assert method_named(" distreal [ rescale = true ] ").name == "distreal[rescale=true]"


def test_a_list_of_methods_is_parted_outside_of_brackets() -> None:
    text = "distreal, distreal[filters=first,drawn=round],heterofl,"
    assert parsed_list(text, "methods") == ["distreal", "distreal[filters=first,drawn=round]", "heterofl"]


@hypothesis.given(strategies.sampled_from(sorted(METHODS)), strategies.data())
def test_any_choices_make_a_method_or_one_clear_line(base: str, data: strategies.DataObject) -> None:
    chosen = data.draw(strategies.lists(strategies.sampled_from(sorted(CHOICES)), min_size=1, max_size=4, unique=True))
    values = {choice: data.draw(strategies.sampled_from(CHOICES[choice])) for choice in chosen}
    text = f"{base}[{','.join(f'{choice}={str(value).lower()}' for choice, value in values.items())}]"
    try:
        method = method_named(text)
    except InputError as error:
        assert repr(text) in str(error) and ";" in str(error) and "\n" not in str(error)
        return
    assert method.name == text and "/" not in method.name
    assert all(getattr(method, choice) == value for choice, value in values.items())
    unchanged = {field.name for field in dataclasses.fields(Method)} - {"name", *values}
    assert all(getattr(method, choice) == getattr(METHODS[base], choice) for choice in unchanged)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fedavg", "unknown method 'fedavg'; choose from: distreal, distreal_uniform"),
        ("", "unknown method ''; choose from"),
        ("distreal[", "unknown method 'distreal['"),
        ("distreal[filters=first][drawn=round]", "unknown method"),
        ("../distreal[filters=first]", "unknown method"),
        ("distreal[]", "unknown choice ''; choose from: rates, filters"),
        ("distreal[filter=first]", "unknown choice 'filter'; did you mean filters? choose from: rates, filters"),
        ("distreal[name=x]", "unknown choice 'name'"),
        ("distreal[filters=last]", "filters is last; choose from: random, first, rolling, ensemble"),
        ("distreal[filters]", "filters is ; choose from: random, first, rolling"),
        ("partial_batch", "method 'partial_batch' is called 'adaptive_batch' now; give 'adaptive_batch'"),
        ("partial_batch[pace=present]", "give 'adaptive_batch[pace=present]'"),
        ("distreal[by_steps=1]", "by_steps is 1; choose from: false, true"),
        ("distreal[filters=first,filters=rolling]", "filters is given twice"),
    ],
)
def test_what_is_no_method_is_refused_with_the_valid_names(name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        method_named(name)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        # Kept sets that differ from step to step: what a client trained is more than what its widest step did.
        ("distreal_uniform[average=covered]", "give filters=first, filters=rolling or drawn=round"),
        ("fjord[filters=random]", "give filters=first, filters=rolling or drawn=round"),
        # The entries of a searched table are not nested: a dearer one may keep fewer filters of a layer.
        ("distreal[average=covered,drawn=round]", "give decided=round or average=all"),
        ("distreal[dense=true]", "leave it out, or give rates=uniform"),
        ("distreal[below_cap=true]", "give decided=round"),
        ("heterofl[pace=remaining]", "give decided=step"),
        ("distreal[cap=mean]", "cap=mean needs a decision for a whole round; give decided=round"),
        ("partial_work[label_rows=true]", "needs a mean of each element; give average=covered"),
        ("heterofl[filters=ensemble]", "give decided=never,drawn=round"),
        ("distreal_uniform[pace=progress]", "give rates=table"),
        ("heterofl[unfinished=layers]", "give rates=full"),
        ("slt[decided=round]", "give decided=never,filters=first"),
        ("slt[batch=cut]", "batch=whole"),
        ("salf[decided=round]", "give rates=full and decided=step"),
        ("partial_work[pace=remaining]", "says nothing where there is one entry"),
        ("fednova[proximal=true]", "leave proximal=true out"),
        # A part of a partition is another one when it is drawn again, or when its width changes.
        ("shuffled_partition[drawn=step]", "drawn=round"),
        ("shuffled_partition[below_cap=true]", "give decided=round and below_cap=false"),
        ("shuffled_partition[decided=step]", "give decided=round and below_cap=false"),
        ("small_network[schedule=widen]", "give decided=step or decided=round"),
    ],
)
def test_choices_that_contradict_each_other_are_refused_with_a_remedy(name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        method_named(name)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "distreal_uniform[average=covered,drawn=round]",
        "distreal_uniform[average=covered,filters=first]",
        "distreal[average=covered,decided=round,drawn=round]",
        "partial_work[average=covered]",
        "distreal[pace=remaining]",
        "distreal[cap=mean,decided=round]",
        "heterofl[filters=ensemble,decided=never]",
    ],
)
def test_the_remedies_hold(name: str) -> None:
    assert method_named(name).name == name


def test_methods_are_named_once_whatever_they_are_called() -> None:
    assert [method.name for method in methods_named(["heterofl", "distreal"])] == ["heterofl", "distreal"]
    with pytest.raises(InputError, match="no method given"):
        methods_named([])
    for again in ("distreal", "distreal[filters=random]"):
        with pytest.raises(InputError, match="are the same; name each method once"):
            methods_named(["distreal", again])
    with pytest.raises(InputError, match="are the same"):
        methods_named(["distreal[filters=first,drawn=round]", "distreal[drawn=round,filters=first]"])


def test_what_a_method_hands_over_is_what_its_devices_train() -> None:
    delivers = {name: method.delivers for name, method in METHODS.items()}
    assert {name for name, model in delivers.items() if model == "largest"} == {
        "heterofl",
        "fjord",
        "small_network",
        "slt",
        "fedgmr",
    }
    assert {name for name, model in delivers.items() if model == "ensemble"} == {"small_ensemble"}
    assert method_named("distreal[filters=first]").delivers == "largest"
    assert method_named("partial_work[filters=first]").delivers == "full"
