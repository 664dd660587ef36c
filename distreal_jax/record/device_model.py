"""What a run costs devices beside time: a stated model of energy, and of rounds that wait for slow links.

Figures of a model, not measurements: they rank methods by what they compute and send, and other devices have others.
"""

import dataclasses
from typing import Annotated

import numpy as np

from distreal_jax.record.method_result import MethodResult
from distreal_jax.settings import Within, check_settings


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """What a device spends on computing and sending.

    Attributes:
      picojoules_per_mac: Energy of a multiply-accumulate with its memory traffic; chosen by us: 20 GMAC/s at 2 W.
      microjoules_per_byte_up: Energy to send a byte; the default is Wi-Fi's 283 mW a Mbit/s (Huang et al., MobiSys 2012).
      microjoules_per_byte_down: Energy to receive a byte; the default is Wi-Fi's 137 mW for a Mbit/s.
      megabits_per_second: Of a device's link, both ways; chosen by us.
    """

    picojoules_per_mac: Annotated[float, Within(0, 1e12)] = 100.0
    microjoules_per_byte_up: Annotated[float, Within(0, 1e12)] = 2.26
    microjoules_per_byte_down: Annotated[float, Within(0, 1e12)] = 1.1
    megabits_per_second: Annotated[float, Within(1e-6, 1e9)] = 10.0

    def __post_init__(self) -> None:
        check_settings(self)

    def joules(self, result: MethodResult) -> tuple[float, ...]:
        """Energy of all devices up to each evaluation, [evaluations]."""
        curves = (result.macs, result.bytes_up, result.bytes_down)
        each = (self.picojoules_per_mac * 1e-12, self.microjoules_per_byte_up * 1e-6, self.microjoules_per_byte_down * 1e-6)
        return tuple(float(value) for value in np.array(each) @ np.array(curves))

    def link_seconds(self, result: MethodResult) -> tuple[float, ...]:
        """Seconds up to each evaluation if a round ends when its last client has computed and sent, [evaluations].

        A client computes while it sends, so that a round takes the longer of the two. No round takes less than it takes to
        compute, or less than it takes to send what one client receives and sends.
        """
        round_seconds = result.times[-1] / result.rounds[-1]
        sending = np.array(result.round_bytes) * 8e-6 / self.megabits_per_second
        rounds = np.maximum(np.array(result.round_computing) * round_seconds, sending)
        until = np.concatenate([[0.0], np.cumsum(rounds)])
        return tuple(float(until[int(done)]) for done in result.rounds)
