"""The methods of the literature, each a point in one small space of choices.

A method says which sub-networks a device may train, which filters they keep, when filters are drawn and entries are
chosen, what is uploaded at the deadline, and how the server averages. Nothing else differs between methods: data, client
sample, initial weights and load are the same for a given seed.

Any other point of the space is written as a method with changed choices: `distreal[filters=first,drawn=round]`.
"""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Literal

from distreal_jax.errors import InputError, choose_from
from distreal_jax.own import called, is_own, own


@dataclasses.dataclass(frozen=True)
class Method:
    """One point in the space of methods.

    Attributes:
      name: The name on the command line and in results.
      source: The publication.
      rates: Which entries a device may choose from: the searched `table`, one rate for all layers (`uniform`), HeteroFL's
        halvings (`halving`), the `full` network alone, the full network with its first layers frozen (`depths`), or the
        stages of successive layer training (`stages`), which follow on each other.
      filters: Which filters a sub-network keeps: a `random` set, the `first` k, a window that is `rolling` by one filter
        a round, the window of one member of an `ensemble` (disjoint windows of k filters; a device draws one of them), one
        part of a `partition` of all filters (the same windows, of which the whole network is trained), those of the
        largest `norm` when the round begins, or those that the last round moved the farthest relative to it (`update`).
      drawn: How often the filters are redrawn: each `step` (mini-batch) or each `round`. The first k never change.
      decided: When a device chooses its entry from its availability: before each `step`, at the start of each `round`, or
        `never` (one entry for all devices in all rounds).
      cap: The availability by which a device that decides once a round chooses: the `present` one, the `mean` of its own
        past rounds, or their lower `quartile`. With decided=never: the lowest that any device may have, or the mean or lower
        quartile over devices.
      pace: The budget of a step for a device that decides before each step: an equal part of a round at its `present`
        speed, or an equal part of what is `remaining` of the round. With `progress` it chooses the entry that promises the
        most by the deadline: its measured progress times the square root of the mini-batches that fit at the present
        speed. With `best` it chooses the entry with the most measured progress of which one mini-batch still fits.
      below_cap: The entry of each step is drawn from those at or below the cap of the round (FjORD).
      idle: What a device does after its last mini-batch until the deadline: `wait`, or `train` on.
      dense: Whether hidden dense units are dropped like filters. A searched table decides this itself.
      rescale: Whether the output of k of a layer's C filters is multiplied by C / k in training, where no normalisation
        follows (HeteroFL's scaler); None takes the setting of the training.
      batch: What a device does when the full network on a `whole` mini-batch costs too much: drop filters (`whole`), or
        first leave out examples, down to one, and drop filters only below that (`cut`).
      masked_loss: Whether logits of classes that a device lacks are set to zero in its loss (HeteroFL).
      label_rows: Whether a class's row of the classifier is averaged over the clients that have examples of that class
        (HeteroFL's and FedRolex's code).
      proximal: Whether FedProx's term keeps a device near the global model. Its weight mu is a setting of the training.
      unfinished: Whether a device that is not done at the deadline uploads what it has (`upload`) or nothing (`discard`), or
        also the layers whose gradients were computed when the deadline cut a mini-batch (`layers`).
      schedule: Whether devices may choose any entry in all rounds (`none`), or cheap ones first and all of them from half of
        the training on (`widen`).
      average: `all`: the mean of full models (FedAvg). `covered`: each element is the mean over the clients that trained
        it; an element that no client trained keeps its value. `normalised`: the mean change per local step, times the mean
        number of local steps (FedNova).
      by_steps: Whether a client's weight in the average is multiplied by the fraction of its mini-batches that it finished.
      limited: False for the upper bound, where every device has full resources.

    Raises:
      InputError: On creation, if a choice does not exist or contradicts another.
    """

    name: str
    source: str
    rates: Literal["table", "uniform", "halving", "full", "depths", "stages"]
    filters: Literal["random", "first", "rolling", "ensemble", "partition", "norm", "update"] = "random"
    drawn: Literal["step", "round"] = "step"
    decided: Literal["step", "round", "never"] = "step"
    cap: Literal["present", "mean", "quartile"] = "present"
    pace: Literal["present", "remaining", "progress", "best"] = "present"
    below_cap: bool = False
    idle: Literal["wait", "train"] = "wait"
    dense: bool = False
    rescale: bool | None = None
    batch: Literal["whole", "cut"] = "whole"
    masked_loss: bool = False
    label_rows: bool = False
    proximal: bool = False
    unfinished: Literal["upload", "discard", "layers"] = "upload"
    schedule: Literal["none", "widen"] = "none"
    average: Literal["all", "covered", "normalised"] = "all"
    by_steps: bool = False
    limited: bool = True

    def __post_init__(self) -> None:
        for choice, allowed in CHOICES.items():
            if getattr(self, choice) not in (*allowed, Method.__dataclass_fields__[choice].default):
                raise InputError(
                    f"method {self.name!r}: {choice} is {_text(getattr(self, choice))}; "
                    f"choose from: {', '.join(map(_text, allowed))}"
                )
        contradictions = {
            # What a client trained in a round is read off its widest step, so all its steps have to keep nested filters.
            "average=covered needs steps that train nested filters; give filters=first, filters=rolling or drawn=round": (
                self.average == "covered"
                and self.rates != "full"
                and self.filters in ("random", "partition")
                and self.drawn == "step"
            ),
            "filters=partition with average=covered needs one width for a round; give decided=round and below_cap=false": (
                self.average == "covered"
                and self.rates != "full"
                and self.filters == "partition"
                and (self.decided == "step" or self.below_cap)
            ),
            "average=covered needs nested entries, which a searched table has not; give decided=round or average=all": (
                self.average == "covered" and self.rates == "table" and (self.decided == "step" or self.below_cap)
            ),
            f"dense=true says nothing where rates={self.rates}; leave it out, or give rates=uniform": (
                self.dense and self.rates in ("table", "full", "depths")
            ),
            "below_cap=true needs a cap; give decided=round": self.below_cap and self.decided == "step",
            f"cap={self.cap} needs a decision for a whole round; give decided=round": (
                self.cap != "present" and self.decided == "step"
            ),
            "label_rows=true needs a mean of each element; give average=covered": (
                self.label_rows and self.average != "covered"
            ),
            "filters=ensemble needs one width for ever and a member for a round; give decided=never,drawn=round": (
                self.filters == "ensemble" and (self.decided, self.drawn) != ("never", "round")
            ),
            f"pace={self.pace} needs a decision before each step; give decided=step": (
                self.pace != "present" and self.decided != "step"
            ),
            f"pace={self.pace} needs entries whose progress was measured; give rates=table": (
                self.by_progress and self.rates != "table"
            ),
            "unfinished=layers is of a device that always begins all layers; give rates=full and decided=step": (
                self.unfinished == "layers" and (self.rates, self.batch, self.decided) != ("full", "whole", "step")
            ),
            f"pace={self.pace} says nothing where there is one entry; give batch=cut, or leave it out": (
                self.pace != "present" and (self.rates, self.batch) == ("full", "whole")
            ),
            "average=normalised counts steps of plain SGD; leave proximal=true out": (
                self.average == "normalised" and self.proximal
            ),
            "rates=stages needs one entry for all, nested filters and whole mini-batches; give "
            "decided=never,filters=first,batch=whole": (
                self.rates == "stages" and (self.decided, self.filters, self.batch) != ("never", "first", "whole")
            ),
            "schedule=widen needs entries to widen to; give decided=step or decided=round": (
                self.schedule == "widen" and self.decided == "never"
            ),
        }
        for contradiction, holds in contradictions.items():
            if holds:
                raise InputError(f"method {self.name!r}: {contradiction}")

    @property
    def by_progress(self) -> bool:
        """Whether a device chooses entries by their measured progress."""
        return self.pace in BY_PROGRESS

    @property
    def delivers(self) -> Literal["full", "largest", "ensemble"]:
        """The model that the method delivers, which is the one that is scored.

        Random and rolling sub-networks train all filters, so the `full` network is delivered. With nested sub-networks (the
        first k filters) it is the `largest` that was trained: filters beyond it still have their initial weights. An
        `ensemble` delivers all its members.
        """
        if self.filters == "ensemble":
            return "ensemble"
        return "largest" if self.filters == "first" and self.rates not in ("full", "depths") else "full"


BY_PROGRESS = ("progress", "best")
"""The paces by which a device goes by measured progress."""

CHOICES: dict[str, tuple[str | bool, ...]] = {
    choice: typing.get_args(kind) if typing.get_origin(kind) is Literal else (False, True)
    for choice, kind in typing.get_type_hints(Method).items()
    if choice not in ("name", "source")
}
"""The values of each choice of a method."""

# Shared by the methods whose sub-network stays the same for a whole round. Their papers have no deadline. A device that
# misses it uploads what it has, as with every method here except the one that drops stragglers.
_ROUND_GRANULAR = Method(
    "",
    "",
    rates="uniform",
    drawn="round",
    decided="round",
    dense=True,
    average="covered",
)
_SMALL_NETWORK = dataclasses.replace(
    _ROUND_GRANULAR,
    name="small_network",
    source="one width for all devices, trained with partial work",
    filters="first",
    decided="never",
    by_steps=True,
)
_PARTIAL_WORK = Method("partial_work", "Li et al., MLSys 2020, without the proximal term", rates="full", by_steps=True)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("distreal", "Rapp et al., AAAI 2022", rates="table"),
        Method("distreal_uniform", "ablation: one rate for all layers", rates="uniform"),
        dataclasses.replace(_ROUND_GRANULAR, name="federated_dropout", source="Caldas et al., 2018"),
        # Its static BatchNorm, statistics that are estimated after training, is how every method is evaluated here.
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="heterofl",
            source="Diao et al., ICLR 2021",
            rates="halving",
            filters="first",
            # Its scaler stands before a normalisation layer, which undoes it. Without one it does harm: final accuracy on
            # digits 0.32 with and 0.89 without; heterofl[rescale=true] has it.
            rescale=False,
            masked_loss=True,
            label_rows=True,
        ),
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="fjord",
            source="Horvath et al., NeurIPS 2021, without distillation",
            filters="first",
            drawn="step",
            below_cap=True,
        ),
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="fedrolex",
            source="Alam et al., NeurIPS 2022",
            filters="rolling",
            masked_loss=True,
            label_rows=True,
        ),
        _SMALL_NETWORK,
        dataclasses.replace(
            _SMALL_NETWORK,
            name="small_ensemble",
            source="Cheng et al., CVPR workshops 2022: several small networks instead of parts of a large one",
            filters="ensemble",
        ),
        Method("drop_stragglers", "McMahan et al., AISTATS 2017", rates="full", unfinished="discard"),
        _PARTIAL_WORK,
        dataclasses.replace(_PARTIAL_WORK, name="fedprox", source="Li et al., MLSys 2020", proximal=True),
        dataclasses.replace(
            _PARTIAL_WORK,
            name="adaptive_batch",
            # Kin: batches by a device's speed in Ma et al., IEEE TMC 2021; with deadlines in ADEL-FL (Goren et al., arXiv
            # 2505.23973); with bandwidth in Yang et al., arXiv 2507.15601. Here: what the device can afford now.
            source="FedAvg with batches that a device can afford: Ma et al., IEEE TMC 2021; arXiv 2505.23973, 2507.15601",
            batch="cut",
            # Final accuracy on Fashion-MNIST 0.788 and 0.779 with pace=present under harsh load, 0.817 and 0.812 under mild.
            pace="remaining",
        ),
        # Their code freezes any blocks that fit and computes these in 8 bits; here they are the first, in full precision.
        Method(
            "cocofl",
            "Pfeiffer et al., TMLR 2023, with frozen first layers, without quantisation",
            rates="depths",
            drawn="round",
            decided="round",
        ),
        # Asynchronous in the paper; a layer's mean over those that trained it is chosen by us.
        Method(
            "timelyfl",
            "Zhang et al., CVPR workshops 2023, in synchronous rounds",
            rates="depths",
            drawn="round",
            decided="round",
            average="covered",
        ),
        # One local step in the paper, and a factor against the bias of layers that few reach, which is left out.
        Method(
            "salf",
            "Lang et al., arXiv 2403.18375, with several local steps",
            rates="full",
            drawn="round",
            unfinished="layers",
            average="covered",
        ),
        Method(
            "slt",
            "Pfeiffer et al., NeurIPS 2023, with stages by cost",
            rates="stages",
            filters="first",
            drawn="round",
            decided="never",
            dense=True,
            average="covered",
            by_steps=True,
        ),
        # FIARSE masks single weights of the largest magnitude; its dense form, chosen by us, is filters of the largest norm.
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="filter_norms",
            source="the dense form of FIARSE, Wu et al., NeurIPS 2024",
            filters="norm",
        ),
        # Their code drops neurons whose updates stay below a threshold that grows until the wanted share is dropped; here
        # the wanted share decides, and a filter that nobody trained keeps its score (chosen by us).
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="fluid",
            source="invariant dropout of FLuID, Wang et al., NeurIPS 2023",
            filters="update",
        ),
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="shuffled_partition",
            source="arXiv 2511.06132: parts of a fixed partition, here drawn by each device on its own",
            filters="partition",
        ),
        # Asynchronous, and about bandwidth, in the paper: here cheap entries first, all from half of the training on.
        dataclasses.replace(
            _ROUND_GRANULAR,
            name="fedgmr",
            source="FedGMR, arXiv 2512.05372, in synchronous rounds: widths that grow over rounds",
            filters="first",
            schedule="widen",
        ),
        Method("fednova", "Wang et al., NeurIPS 2020", rates="full", average="normalised"),
        Method("full_resources", "upper bound: nobody is limited", rates="full", limited=False),
    )
}

_RENAMED = {"partial_batch": "adaptive_batch"}
_WITH_CHOICES = re.compile(r"(?P<base>[^\[\]]+)\[(?P<choices>[^\[\]]*)\]")


def method_named(name: str) -> Method:
    """The method of that name.

    Args:
      name: A key of `METHODS`, or MODULE:NAME for your own (a `Method`, or a function that returns one). Changed choices
        follow in brackets: `distreal[filters=first,drawn=round]`. Spaces are removed; the rest names results and folders.

    Raises:
      InputError: No such method, choice or value (the valid ones are listed), or choices that contradict each other.
    """
    name = "".join(name.split())
    parts = _WITH_CHOICES.fullmatch(name)
    base = parts["base"] if parts else name
    if is_own(base):
        method = _own_method(base)
        return _with_choices(method, f"{method.name}[{parts['choices']}]", parts["choices"]) if parts else method
    if base in _RENAMED:
        raise InputError(f"method {base!r} is called {_RENAMED[base]!r} now; give {name.replace(base, _RENAMED[base])!r}")
    if base not in METHODS:
        raise InputError(
            f"unknown method {name!r}; {choose_from(base, METHODS)}; or one with other choices: distreal[filters=first]"
        )
    return METHODS[base] if parts is None else _with_choices(METHODS[base], name, parts["choices"])


def _own_method(name: str) -> Method:
    found = own(name, "method")
    method = found if isinstance(found, Method) else called(found, name, "method")
    if not isinstance(method, Method):
        raise InputError(f"method {name!r} is a {type(method).__name__}; expected a distreal_jax.Method")
    if not re.fullmatch(r"[\w-]+", method.name) or METHODS.get(method.name, method) != method:
        raise InputError(
            f"method {name!r} has the name {method.name!r}; give it one of its own, of letters, digits, _ and -, as folders "
            "and results are named by it"
        )
    return method


def _with_choices(method: Method, name: str, chosen: str) -> Method:
    """A method with other choices, as written in brackets."""
    choices: dict[str, str | bool] = {}
    for choice, value in _as_written(chosen):
        if choice not in CHOICES:
            raise InputError(f"method {name!r}: unknown choice {choice!r}; {choose_from(choice, CHOICES)}")
        if choice in choices:
            raise InputError(f"method {name!r}: {choice} is given twice; give it once")
        choices[choice] = {_text(allowed): allowed for allowed in CHOICES[choice]}.get(value, value)
    return dataclasses.replace(method, name=name, **choices)  # type: ignore[arg-type]  # checked on creation


def _as_written(chosen: str) -> list[tuple[str, str]]:
    """Each choice in brackets and its value, as text."""
    return [(choice, value) for choice, _, value in (part.partition("=") for part in chosen.split(","))]


def name_with(name: str, choices: Mapping[str, str]) -> str:
    """The name of a method with other choices in brackets, in place of those and beside others that stand there."""
    parts = _WITH_CHOICES.fullmatch(name)
    chosen = dict(_as_written(parts["choices"]) if parts else ()) | dict(choices)
    return f"{parts['base'] if parts else name}[{','.join(f'{choice}={value}' for choice, value in chosen.items())}]"


def that_train_on(names: Sequence[str]) -> list[str]:
    """The names of the same methods with `idle=train`: no device waits for the deadline, so all compute as much as they can.

    Args:
      names: As for `method_named`.

    Raises:
      InputError: As `method_named`.
    """
    return [name if method_named(name).idle == "train" else name_with(name, {"idle": "train"}) for name in names]


def methods_named(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods of those names, in that order; raises `InputError` for an unknown one, or for one that comes twice."""
    if not names:
        raise InputError(f"no method given; choose from: {', '.join(METHODS)}")
    methods = tuple(method_named(name) for name in names)
    seen: dict[Method, str] = {}
    for method in methods:
        choices = dataclasses.replace(method, name="", source="")
        if choices in seen:
            raise InputError(f"methods {seen[choices]!r} and {method.name!r} are the same; name each method once")
        seen[choices] = method.name
    return methods


def _text(choice: object) -> str:
    """A choice as the command line writes it."""
    return str(choice).lower() if isinstance(choice, bool) else str(choice)
