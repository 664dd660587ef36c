"""The short text that says which load the devices are under: a kind, a colon, and its settings, as in `redrawn:0.1,1,3`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distreal_jax.availability import device_traces
from distreal_jax.availability.processes import Constant, Markov, Redrawn, Tiers
from distreal_jax.availability.recorded import Recorded
from distreal_jax.availability.segments import Availability, checked_load
from distreal_jax.availability.trace_files import number_of, read_trace
from distreal_jax.errors import InputError, did_you_mean
from distreal_jax.files import user_path
from distreal_jax.own import called, is_own, own
from distreal_jax.settings import SECONDS, Within

LOWEST_AVAILABILITY = 1e-9  # chosen by us: nobody waits so long for a mini-batch
LEAST_SHARE, LARGEST_SHARE = 1e-9, 1e9  # of tiers, chosen by us; their sum has to be finite
LOWEST_RATE, HIGHEST_RATE = 1e-6, 1000.0  # changes in a round; chosen by us: counters and memory stay small
MOST_DEVICES = 2**32  # a device is one counter word of the random draws
FLOORS = Within(LOWEST_AVAILABILITY, 1)
FLOOR = 0.01  # chosen by us; the lowest availability of the PlanetLab machines is the same
PLANETLAB_PERIOD_SECONDS = 300.0  # of the measurements of March and April 2011
PLANETLAB_ROUND_SECONDS = 900.0  # chosen by us: three samples in a round


class Request(NamedTuple):
    """What is asked for: the text, its comma-separated settings, and the experiment that it is for."""

    text: str
    settings: tuple[str, ...]
    seed: int
    num_devices: int
    data_dir: Path | None


class Kind(NamedTuple):
    """A kind of load: how it is written, and what builds it."""

    usage: str
    build: Callable[[Request], Availability]


def make_availability(spec: str, *, seed: int, num_devices: int, data_dir: str | Path | None = None) -> Availability:
    """The availability of a population of devices, from a short text.

    | text | what it is |
    |---|---|
    | `constant:0.3` | every device, always |
    | `constant:0.1,1` | each device a constant of its own, uniform from 0.1 to 1 |
    | `tiers:1,0.5,0.25` | each device in one tier; equal shares |
    | `tiers:1@0.2,0.1@0.8` | the same, with the tiers' shares |
    | `redrawn:0.1,1,3` | uniform from 0.1 to 1, redrawn 3 times a round on average, at the times of a Poisson process |
    | `markov:0.1,0.4,1,3` | levels 0.1, 0.4 and 1; 3 moves a round on average, to the level above or below |
    | `trace:PATH,round_seconds=600` | a recorded CSV or NPZ trace; also `,floor=0.01` and, for NPZ, `,period_seconds=300` |
    | `planetlab` | a day of load of 11,746 PlanetLab machines; also `planetlab:round_seconds=900,floor=0.01` |
    | `phones` | tiers: 333 phones by their AI-Benchmark score of float inference on the CPU |
    | `phones_measured` | tiers: phones by their measured training time |
    | `MODULE:NAME` | one's own: a function that returns an `Availability`; may take `seed`, `num_devices`, `data_dir` |

    Args:
      spec: The text.
      seed: The experiment's seed, 0 or above.
      num_devices: The population's size; devices are 0 to num_devices - 1.
      data_dir: Where `planetlab` and the phones look for the folder `device_traces`; see `device_traces.trace_file`.

    Raises:
      InputError: No such kind (the valid ones are listed), a setting that is missing, no number or out of range, or a
        trace that can't be read.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; expected 0 or above")
    if not 1 <= num_devices <= MOST_DEVICES:
        raise InputError(f"{num_devices} devices given; expected 1 to {MOST_DEVICES}")
    name, colon, rest = spec.partition(":")
    folder = None if data_dir is None else user_path(data_dir)
    if name not in KINDS and is_own(spec):
        return _own_load(spec, seed=seed, num_devices=num_devices, data_dir=folder)
    if name not in KINDS:
        usages = "; ".join(kind.usage for kind in KINDS.values())
        raise InputError(f"unknown availability {spec!r}; {did_you_mean(name, KINDS)}give one like: {usages}")
    settings = tuple(setting.strip() for setting in rest.split(",")) if colon else ()
    return KINDS[name].build(Request(spec, settings, seed, num_devices, folder))


def _own_load(spec: str, **given: Any) -> Availability:
    return checked_load(called(own(spec, "availability"), spec, "availability", **given), f"availability {spec!r}")


def _constant(request: Request) -> Availability:
    if len(request.settings) not in (1, 2):
        raise _misused(request)
    low, *high = _levels(request, request.settings)
    return Constant(request.seed, *_ordered(request, low, *(high or [low])))


def _tiers(request: Request) -> Availability:
    levels, _, weights = zip(*(setting.partition("@") for setting in request.settings or ("",)), strict=True)
    shares = tuple(number_of(weight or "1", f"a tier's share in {request.text!r}") for weight in weights)
    if any(weights) != all(weights) or not all(LEAST_SHARE <= share <= LARGEST_SHARE for share in shares):
        raise InputError(
            f"availability {request.text!r}: expected a positive share, {LEAST_SHARE:g} to {LARGEST_SHARE:g}, for every "
            "tier or for none, as in tiers:1@0.2,0.1@0.8"
        )
    return Tiers(request.seed, request.num_devices, _levels(request, levels), shares)


def _redrawn(request: Request) -> Availability:
    if len(request.settings) != 3:
        raise _misused(request)
    low, high = _ordered(request, *_levels(request, request.settings[:2]))
    return Redrawn(request.seed, low, high, _rate(request))


def _markov(request: Request) -> Availability:
    if len(request.settings) < 3:
        raise _misused(request)
    return Markov(request.seed, _levels(request, request.settings[:-1]), _rate(request))


def _trace(request: Request) -> Availability:
    options = _options(request, request.settings[1:], ("round_seconds", "period_seconds", "floor"))
    if not request.settings or not request.settings[0] or "round_seconds" not in options:
        raise _misused(request)
    trace = read_trace(user_path(request.settings[0]), options.get("floor", FLOOR), options.get("period_seconds"))
    return Recorded(request.seed, trace, options["round_seconds"])


def _planetlab(request: Request) -> Availability:
    options = _options(request, request.settings, ("round_seconds", "floor"))
    path = device_traces.trace_file("planetlab_cpu_2011.npz", request.data_dir)
    trace = read_trace(path, options.get("floor", FLOOR), PLANETLAB_PERIOD_SECONDS)
    return Recorded(request.seed, trace, options.get("round_seconds", PLANETLAB_ROUND_SECONDS))


def _phones(request: Request) -> Availability:
    if request.settings:
        raise _misused(request)
    speeds = device_traces.benchmark_speeds(device_traces.trace_file("ai_benchmark_phones.csv", request.data_dir))
    return Tiers(request.seed, request.num_devices, speeds, (1.0,) * len(speeds))


def _phones_measured(request: Request) -> Availability:
    if request.settings:
        raise _misused(request)
    speeds = device_traces.training_speeds(device_traces.trace_file("phone_train_time.csv", request.data_dir))
    return Tiers(request.seed, request.num_devices, speeds, (1.0,) * len(speeds))


KINDS = {
    "constant": Kind("constant:0.3 or constant:0.1,1", _constant),
    "tiers": Kind("tiers:1,0.5,0.25 or tiers:1@0.2,0.1@0.8", _tiers),
    "redrawn": Kind("redrawn:0.1,1,3 (lowest, highest, redraws a round)", _redrawn),
    "markov": Kind("markov:0.1,0.4,1,3 (two levels or more, moves a round)", _markov),
    "trace": Kind("trace:PATH,round_seconds=600 (a CSV or NPZ file)", _trace),
    "planetlab": Kind("planetlab or planetlab:round_seconds=900,floor=0.01", _planetlab),
    "phones": Kind("phones", _phones),
    "phones_measured": Kind("phones_measured", _phones_measured),
}


def _misused(request: Request) -> InputError:
    name = request.text.partition(":")[0]
    return InputError(f"availability {request.text!r} can't be read; write it like {KINDS[name].usage}")


def _levels(request: Request, settings: Sequence[str]) -> tuple[float, ...]:
    levels = tuple(number_of(setting, f"an availability in {request.text!r}") for setting in settings)
    for level in levels:
        if not LOWEST_AVAILABILITY <= level <= 1:
            raise InputError(
                f"availability {level:g} in {request.text!r} is outside (0, 1]; give a fraction of the full speed, at least "
                f"{LOWEST_AVAILABILITY:g}"
            )
    return levels


def _ordered(request: Request, low: float, high: float) -> tuple[float, float]:
    if low > high:
        raise InputError(f"availability {request.text!r} has {low:g} as its lowest and {high:g} as its highest; swap them")
    return low, high


def _rate(request: Request) -> float:
    rate = number_of(request.settings[-1], f"the rate in {request.text!r}")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InputError(
            f"rate {rate:g} in {request.text!r} is outside [{LOWEST_RATE:g}, {HIGHEST_RATE:g}] changes a round;"
            " for load that never changes write constant:0.1,1 or tiers:1,0.5"
        )
    return rate


def _options(request: Request, settings: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    options: dict[str, float] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in names or name in options:
            raise InputError(
                f"option {setting!r} in {request.text!r} is unknown or repeated;"
                f" valid are {', '.join(names)}, each as name=number"
            )
        options[name] = number_of(value, f"{name} in {request.text!r}")
        within = FLOORS if name == "floor" else SECONDS
        if options[name] not in within:
            raise InputError(f"{name} in {request.text!r} is {options[name]:g}, expected a number {within}")
    return options
