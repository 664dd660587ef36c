"""The methods of the literature, each a point in one small space of choices.

A method says which sub-networks a device may train, which filters those are, when they are drawn and decided, what is
uploaded at the deadline, and how the server averages. Nothing else differs between methods: data, client sample, initial
weights and load are the same for a given seed.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from distreal_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Method:
    """One point in the space of methods.

    Attributes:
      name: What the command line and the results call it.
      source: Where it was published.
      rates: Which entries a device may choose from: the searched `table`, one rate for all layers (`uniform`), HeteroFL's
        halvings (`halving`), or the `full` network alone.
      filters: Which filters a sub-network keeps: a `random` set, the `first` k, or a window that is `rolling` by one filter
        a round.
      drawn: When the filters are drawn anew: each `step` (mini-batch) or each `round`. The first k never change.
      decided: When the entry is chosen from the availability: before each `step`, at the start of each `round`, or `never`
        (the entry that the weakest device can afford, for ever).
      below_cap: The entry of each step is drawn from those at or below the cap decided at the start of the round (FjORD).
      dense: Hidden dense units are dropped like filters; the table keeps them whole otherwise.
      unfinished: What a device that is not done at the deadline does: `upload` what it has, or `discard` it.
      average: `all`: the mean of full models (FedAvg). `covered`: each element is the mean over the clients that trained
        it; an element nobody trained keeps its old value.
      by_steps: Weights of the average are multiplied by the fraction of mini-batches done.
      limited: False for the upper bound where every device has all resources.
    """

    name: str
    source: str
    rates: Literal["table", "uniform", "halving", "full"]
    filters: Literal["random", "first", "rolling"] = "random"
    drawn: Literal["step", "round"] = "step"
    decided: Literal["step", "round", "never"] = "step"
    below_cap: bool = False
    dense: bool = False
    unfinished: Literal["upload", "discard"] = "upload"
    average: Literal["all", "covered"] = "all"
    by_steps: bool = False
    limited: bool = True


# What the methods share whose sub-network stays the same for a whole round.
_ROUND_GRANULAR = Method(
    "",
    "",
    rates="uniform",
    drawn="round",
    decided="round",
    dense=True,
    unfinished="discard",
    average="covered",
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("distreal", "Rapp et al., AAAI 2022", rates="table"),
        Method("distreal_uniform", "ablation: one rate for all layers", rates="uniform"),
        dataclasses.replace(_ROUND_GRANULAR, name="federated_dropout", source="Caldas et al., 2018"),
        dataclasses.replace(
            _ROUND_GRANULAR, name="heterofl", source="Diao et al., ICLR 2021", rates="halving", filters="first"
        ),
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="fjord",
            source="Horvath et al., NeurIPS 2021",
            filters="first",
            drawn="step",
            below_cap=True,
        ),
        dataclasses.replace(_ROUND_GRANULAR, name="fedrolex", source="Alam et al., NeurIPS 2022", filters="rolling"),
        dataclasses.replace(
            _ROUND_GRANULAR, name="small_network", source="fits the weakest device", filters="first", decided="never"
        ),
        Method("drop_stragglers", "McMahan et al., AISTATS 2017", rates="full", unfinished="discard"),
        Method("partial_work", "Li et al., MLSys 2020, without the proximal term", rates="full", by_steps=True),
        Method("full_resources", "upper bound: nobody is limited", rates="full", limited=False),
    )
}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
      InputError: No such method; the valid names are listed.
    """
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; choose from: {', '.join(METHODS)}")
    return METHODS[name]


def methods_named(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods of those names, in that order; raises `InputError` for an unknown or repeated one."""
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise InputError(f"method {repeated[0]!r} is given twice; name each method once")
    if not names:
        raise InputError(f"no method given; choose from: {', '.join(METHODS)}")
    return tuple(method_named(name) for name in names)
