"""Random numbers that are a function of what they are for: seed, role, device, round.

A counter-based generator, Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), over whole
arrays of counters: thousands of devices are drawn for at once, and any one of them alone gets the same numbers. A numpy
`Generator` for each device and round would do as well, at ten microseconds each.
"""

import numpy as np
import numpy.typing as npt

from distreal_jax.availability.segments import Floats, Integers

WORD = np.uint64(0xFFFFFFFF)
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
PHILOX_ROUNDS = 10
FEISTEL_ROUNDS = 6  # chosen by us; four are the least that looks random (Luby and Rackoff, 1988)

Words = npt.NDArray[np.uint64]


def philox(key: tuple[int, int], counters: tuple[Words, Words, Words, Words]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10: four random 32-bit words for each counter of four words (held as uint64) under a key of two words."""
    half = np.uint64(32)
    first, second = np.uint64(key[0]), np.uint64(key[1])
    a, b, c, d = counters
    for _ in range(PHILOX_ROUNDS):
        low, high = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (high >> half) ^ b ^ first, high & WORD, (low >> half) ^ d ^ second, low & WORD
        first, second = (first + KEY_STEPS[0]) & WORD, (second + KEY_STEPS[1]) & WORD
    return a, b, c, d


def words(seed: int, role: str, *counters: npt.ArrayLike) -> tuple[Words, Words]:
    """Two independent 32-bit words for each combination of up to four broadcastable counters, each below 2**32."""
    key = np.random.SeedSequence(seed, spawn_key=tuple(role.encode())).generate_state(2, np.uint32)
    padded = [np.asarray(counter).astype(np.uint64) for counter in (*counters, 0, 0, 0, 0)[:4]]
    a, b, c, d = np.broadcast_arrays(*padded)
    first, second, _, _ = philox((int(key[0]), int(key[1])), (a, b, c, d))
    return first, second


def uniforms(seed: int, role: str, *counters: npt.ArrayLike) -> Floats:
    """Uniform numbers in [0, 1) with 53 bits, one for each combination of the counters.

    Args:
      seed: The experiment's seed, 0 or above.
      role: What the numbers are for; numbers of two roles are independent.
      *counters: Up to four broadcastable integers or integer arrays, each in [0, 2**32): device, round, index, ...

    Returns:
      float64, of the counters' common shape.
    """
    first, second = words(seed, role, *counters)
    bits = ((first >> np.uint64(5)) << np.uint64(26)) | (second >> np.uint64(6))
    return bits.astype(np.float64) * 2.0**-53


def permuted(seed: int, role: str, members: Integers, size: int) -> Integers:
    """Where a random permutation of range(size) puts `members`, without writing the permutation down.

    A Feistel network permutes a power of four; members that land beyond `size` walk on until they are inside (cycle walking:
    Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Memory depends on the members alone, not on `size`.

    Args:
      seed: The experiment's seed, 0 or above.
      role: What the permutation is for.
      members: int64 [members], each in [0, size).
      size: The number of things permuted, at most 2**32.

    Returns:
      int64 [members], in [0, size); distinct members get distinct places.
    """
    bits = max(1, -(-(size - 1).bit_length() // 2))
    mask = np.uint64((1 << bits) - 1)
    places = members.astype(np.uint64)
    outside = np.ones(len(places), dtype=bool)
    while outside.any():
        left, right = places[outside] >> np.uint64(bits), places[outside] & mask
        for turn in range(FEISTEL_ROUNDS):
            left, right = right, left ^ (words(seed, role, right, turn)[0] & mask)
        places[outside] = (left << np.uint64(bits)) | right
        outside = places >= np.uint64(size)
    return places.astype(np.int64)
