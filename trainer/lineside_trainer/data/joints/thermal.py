"""From lost contact area to B_max, as a transient thermal analysis would see it.

One dominant time constant: Z_th(t) = R (1 - exp(-t/tau)). Its logarithmic derivative
B(t') = dZ_th/dt' with t' = ln t is R (t/tau) exp(-t/tau), largest at t = tau: B_max = R/e
(the quantity of Röhrich et al., sec. 3.2). R is what the heat meets in series: everything but the
joint, which ageing leaves alone, and the joint, whose places conduct in parallel:

    G(t) = sum over pads and places of w (1 - blocked(t)),    sum of w = 1
    R(t) = R_total ((1 - s) + s / G(t)),    s = the sound joint's share of the resistance

w is larger below the chip, so the same crack costs more there. A void blocks all of its place; the
faces of a crack still touch here and there.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside_trainer.data.joints.damage import BoolImage
from lineside_trainer.data.joints.layouts import FloatImage

CRACK_BLOCKS: Final = 0.8
MEASUREMENT_NOISE: Final = 0.012
"""Standard deviation of one B_max measurement, relative."""


def b_max(weight: FloatImage, void: BoolImage, crack: BoolImage, joint_share: float) -> float:
    """B_max without noise, in units of the sound part's thermal resistance.

    Args:
        weight: (G, G) float32, sums to 1 over the pads.
        void: (G, G) bool.
        crack: (G, G) bool, disjoint from ``void``.
        joint_share: s, in (0, 1).
    """
    lost = float(weight[void].sum()) + CRACK_BLOCKS * float(weight[crack].sum())
    return ((1.0 - joint_share) + joint_share / (1.0 - lost)) / float(np.e)


def measure(true_b_max: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """(T,) B_max with the instrument's noise, each measurement its own."""
    noise = generator.standard_normal(len(true_b_max))
    return true_b_max * (1.0 + MEASUREMENT_NOISE * noise)


def delta_b_max(measured_b_max: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) relative increase over the first measurement: eq. 1; the first is 0 by definition."""
    increase: NDArray[np.float64] = measured_b_max / measured_b_max[0] - 1.0
    return increase
