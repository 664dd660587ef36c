"""What a device, or a server, expects of a load from its past: for decisions that hold for a whole round or for ever.

What decides whether a round's work is done by the deadline is the mean availability of the round, so pasts are of these.
"""

from typing import Literal

import numpy as np

from distreal_jax.availability.segments import Availability, Floats, Integers

Policy = Literal["present", "mean", "quartile"]
HISTORY_ROUNDS = 10  # that are looked back on, chosen by us: as many as devices forget within under the loads tried
_MOST_DEVICES = 1000  # of a fleet that are asked, chosen by us: bounds memory


def expected(policy: Policy, availability: Availability, round_index: int, devices: Integers, present: Floats) -> Floats:
    """What each device expects to have in a round, float64 [devices].

    Args:
      policy: The `present` availability, or the `mean` or lower `quartile` of the device's own past rounds.
      availability: The load; only rounds before this one are looked at.
      round_index: The round; the first has no past, and expects the present.
      devices: The devices.
      present: Their availability as the round begins, [devices].
    """
    if policy == "present" or round_index == 0:
        return present
    past = range(max(0, round_index - HISTORY_ROUNDS), round_index)
    means = np.stack([availability.during(index, devices).means() for index in past])
    return np.asarray(means.mean(axis=0) if policy == "mean" else np.quantile(means, 0.25, axis=0), dtype=np.float64)


def expected_of_fleet(policy: Policy, availability: Availability, devices: Integers) -> float:
    """What one decision for all devices and for ever goes by.

    Args:
      policy: `present`: the least that any device may ever have. `mean` or lower `quartile`: over devices, of their means
        over `HISTORY_ROUNDS` rounds, as a server knows them that has watched its fleet.
      availability: The load.
      devices: The fleet, int64 [devices]; only the first thousand are asked.
    """
    if policy == "present":
        return availability.minimum
    asked = devices[:_MOST_DEVICES]
    means = np.mean([availability.during(index, asked).means() for index in range(HISTORY_ROUNDS)], axis=0)
    return float(means.mean() if policy == "mean" else np.quantile(means, 0.25))
