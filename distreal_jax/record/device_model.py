"""What a run costs devices beside time: a stated model of energy, and of rounds that wait for slow links.

Figures of a model, not measurements: they rank methods by what they compute and send, and other devices have others.
"""

import dataclasses

import numpy as np

from distreal_jax.errors import check_settings
from distreal_jax.record.method_result import MethodResult


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """What a device spends on computing and sending.

    Attributes:
      picojoules_per_mac: Energy of a multiply-accumulate with its memory traffic; chosen by us: 20 GMAC/s at 2 W.
      microjoules_per_byte_up: Energy to send a byte; the default is Wi-Fi's 283 mW a Mbit/s (Huang et al., MobiSys 2012).
      microjoules_per_byte_down: Energy to receive a byte; the default is Wi-Fi's 137 mW for a Mbit/s.
      megabits_per_second: Of a device's link, both ways; chosen by us.
    """

    picojoules_per_mac: float = 100.0
    microjoules_per_byte_up: float = 2.26
    microjoules_per_byte_down: float = 1.1
    megabits_per_second: float = 10.0

    def __post_init__(self) -> None:
        names = "picojoules_per_mac microjoules_per_byte_up microjoules_per_byte_down"
        check_settings(
            self,
            (names, lambda value: value >= 0, "a number of at least 0"),
            ("megabits_per_second", lambda value: value > 0, "a number above 0"),
        )

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
