"""A federation that trains in one call or round by round, without files: `dj.Federation` and `dj.History`.

history = dj.Federation(world, "distreal").fit(rounds=50)
for trained in dj.Federation(world, "partial_work"): ...
"""

import base64
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import optax

from distreal_jax.errors import InputError, choose_from
from distreal_jax.experiment.given_table import needed_table
from distreal_jax.fleet import federation as fleet
from distreal_jax.fleet.aggregation import Server
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.programs import Execution, RoundResult
from distreal_jax.fleet.rounds import TrainedRound, trained_rounds
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.work import ClientWork, Grouping
from distreal_jax.fleet.world import World
from distreal_jax.methods import Method, method_named
from distreal_jax.record.evaluations import Evaluation, RecordSettings, evaluations, result_of
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.pictures import accuracy_picture
from distreal_jax.record.report import markdown_table
from distreal_jax.record.statistics import of_evaluations
from distreal_jax.step import ConvolutionForm
from distreal_jax.table import DropoutTable

Callback = Callable[[Evaluation], object]
"""Called at every evaluation. An exception that it raises ends the training."""


class Federation(fleet.Federation):
    """One method in one world, ready to train.

    Devices keep nothing between rounds and begin each with a fresh optimiser: a schedule given to them counts the steps of a
    round. The server's optimiser lasts: a schedule given to it counts rounds.

    Args:
      world: What all methods share.
      method: The method, or its name as on the command line: `distreal[drawn=round]`.
      table: A searched table, for methods that choose from one; None: the one that comes with the package for the network.
        Other methods make their own.
      training: How devices and server train.
      execution: `compact` or `masked`.
      convolution: The form in which convolutions are computed.
      grouping: How clients are shared out; None: what measures best on this platform.
      local_optimizer: The devices' Optax optimiser in place of the settings' SGD, such as `optax.adam(1e-3)`; gradients are
        clipped before it as the settings say.
      server_optimizer: The server's, on the negative mean change of a round: `optax.sgd(1.0)` is FedAvg.

    Raises:
      InputError: No such method, no table for one that needs one, a table of another network, more devices or examples than
        there are, or an optimiser that the method has no average for.
    """

    def __init__(
        self,
        world: World,
        method: Method | str,
        table: DropoutTable | None = None,
        training: TrainingSettings = TrainingSettings(),
        execution: Execution = "compact",
        convolution: ConvolutionForm = "platform",
        grouping: Grouping | None = None,
        *,
        local_optimizer: optax.GradientTransformation | None = None,
        server_optimizer: optax.GradientTransformation | None = None,
    ) -> None:
        method = method_named(method) if isinstance(method, str) else method
        if local_optimizer is not None or server_optimizer is not None:
            settings = {field.name: getattr(training, field.name) for field in dataclasses.fields(TrainingSettings)}
            training = _WithOptimizers(**settings, of_devices=local_optimizer, of_server=server_optimizer)
        if isinstance(training, _WithOptimizers) and training.of_devices is not None and method.average == "normalised":
            raise InputError(
                f"{method.name} weighs updates by the steps of SGD with momentum, and knows no other optimiser of devices; "
                "leave local_optimizer out"
            )
        if table is None:
            table = needed_table(None, world, [method])
        super().__init__(
            world, method, table_for(method, world, table, training), training, execution, convolution, grouping
        )

    def run_round(self, server: Server, work: ClientWork, round_index: int) -> tuple[Server, RoundResult]:
        """Trains a planned round.

        Args:
          server: Given away: its buffers become those of the server that is returned.
          work: From `plan`.
          round_index: From 0.

        Raises:
          InputError: The server was given away before.
        """
        if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(server)):
            raise InputError(
                "this server was given away to a round before, which reused its memory; go on with the server that "
                "run_round returned, or keep a copy: jax.tree.map(jnp.copy, server)"
            )
        return super().run_round(server, work, round_index)

    def __iter__(self) -> Iterator[TrainedRound]:
        """Trains from the first round on, and stops after each; `trained.server` is given away to the next."""
        return trained_rounds(self)

    def fit(
        self,
        rounds: int | None = None,
        *,
        eval_every: int = 5,
        callbacks: Sequence[Callback] = (),
        stop_on_divergence: bool = False,
    ) -> "History":
        """Trains from the first round on and evaluates now and then; nothing is written.

        Args:
          rounds: How many; None: the settings'.
          eval_every: Rounds between evaluations.
          callbacks: Called at every evaluation.
          stop_on_divergence: End at the evaluation that shows that training has diverged.

        Raises:
          InputError: Rounds or eval_every below 1.
        """
        settings = RecordSettings(eval_every=eval_every, stop_on_divergence=stop_on_divergence)
        last: Evaluation | None = None
        for last in evaluations(self._for(rounds), settings):
            for callback in callbacks:
                callback(last)
        assert last is not None  # there is at least one round, and the last is evaluated
        result = result_of(self, last.server.params, last.counted, last.scores)
        return History(result, tuple(last.counted.records), last.server.params)

    def _for(self, rounds: int | None) -> "Federation":
        """The same federation for another number of rounds, with all that is compiled."""
        if rounds in (None, self.training.rounds):
            return self
        same = dataclasses.replace(self, training=dataclasses.replace(self.training, rounds=rounds))
        made, fields = self.round, {field.name for field in dataclasses.fields(self)}  # all that is compiled hangs on it
        kept = {name: value for name, value in self.__dict__.items() if name not in fields}
        same.__dict__.update(kept | {"round": made})
        return same


@dataclasses.dataclass(frozen=True)
class _WithOptimizers(TrainingSettings):
    """Settings with optimisers that are objects; where one is None, the settings' own."""

    of_devices: optax.GradientTransformation | None = None
    of_server: optax.GradientTransformation | None = None

    def local_optimizer(self) -> optax.GradientTransformation:
        if self.of_devices is None:
            return super().local_optimizer()
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), self.of_devices) if self.clip_norm else self.of_devices

    def global_optimizer(self) -> optax.GradientTransformation:
        return super().global_optimizer() if self.of_server is None else self.of_server


@dataclasses.dataclass(frozen=True)
class History:
    """What training came to.

    Attributes:
      result: All of it, as comparisons take it.
      records: A line of metrics for each evaluation, as in `metrics.jsonl`.
      params: The server's parameters at the end.
    """

    result: MethodResult
    records: tuple[Mapping[str, Any], ...]
    params: Any

    @property
    def final(self) -> float:
        """The mean of the last three evaluations, or of all if there are fewer."""
        return self.result.final

    def __getitem__(self, name: str) -> npt.NDArray[np.float64]:
        """A column of the records, float64 [evaluations]: `accuracy`, `round`, `train_loss`, `macs_spent`, ...

        The score of another task than classification is there by its own name too, such as `R squared`.

        Raises:
          InputError: There is no column of numbers of that name.
        """
        name = "accuracy" if name == self.result.score_name else name
        numbers = [key for key, value in self.records[0].items() if not isinstance(value, str)]
        if name not in numbers:
            raise InputError(f"a history has no column {name!r}; {choose_from(name, numbers)}")
        return np.array([np.nan if record[name] is None else record[name] for record in self.records], dtype=np.float64)

    def plot(self, path: str | Path | None = None) -> "Picture":
        """The score over simulated time, as a picture that notebooks show; written to the path if one is given."""
        result = self.result
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "history.png") if path is None else Path(path)
            curves = {result.method: [(result.times, result.accuracies)]}
            accuracy_picture(file, curves, title=f"{result.method}, seed {result.seed}", score=result.scored_by)
            return Picture(file.read_bytes())

    def __str__(self) -> str:
        result = self.result
        rows = [["round", result.score_name, "train loss", "simulated seconds"]]
        for record in self.records:
            loss = "" if record["train_loss"] is None else f"{record['train_loss']:.3f}"
            rows.append([f"{record['round']}", f"{record['accuracy']:.3f}", loss, f"{record['simulated_seconds']:,.0f}"])
        work = max(result.macs_spent + result.macs_wasted + result.macs_idle, 1.0)
        spent, wasted, idle = (part / work for part in (result.macs_spent, result.macs_wasted, result.macs_idle))
        return (
            f"{result.method}, seed {result.seed}: {result.score_name} {self.final:.3f} "
            f"({of_evaluations(len(self.records))}); "
            f"of the devices' resources {spent:.0%} spent, {wasted:.0%} wasted, {idle:.0%} left idle\n\n"
            f"{markdown_table(rows)}"
        )

    __repr__ = __str__  # a dataclass would write out all weights

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.plot().png).decode("ascii")
        return f'<pre>{str(self).splitlines()[0]}</pre><img src="data:image/png;base64,{picture}" width="640">'


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file's bytes, which notebooks show."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png
