"""HDR to SDR: PQ and HLG (ITU-R BT.2100) to BT.709, highlights rolled off as in ITU-R BT.2390-11, 5.4.

Computed here, because FFmpeg's own filters for it (zscale, libplacebo) are missing in PyAV's wheels.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# BT.2100-2, table 4: PQ, whose 1 is 10,000 cd/m2.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# Table 5: HLG, on a screen of 1,000 cd/m2 with a system gamma of 1.2.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_PEAK = 1000.0  # cd/m2, what HDR is graded for in the main
_WHITE = 203.0  # cd/m2 of white paper, BT.2408; it becomes SDR's white
_LUMA_2020 = (0.2627, 0.6780, 0.0593)
# BT.2087-0, 4.1: linear BT.2020 to linear BT.709.
_TO_709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
_GAMMA = 2.4  # BT.1886, the screen of SDR video


def to_sdr(picture: NDArray[np.uint16], transfer: str) -> NDArray[np.uint8]:
    """Map a picture `h w 3` of 16 bits in BT.2020 with "PQ" or "HLG" to BT.709 in 8 bits."""
    light = _linear(transfer)[picture]
    if transfer == "HLG":
        light *= (light @ np.array(_LUMA_2020, np.float32))[..., None] ** 0.2 * _PEAK
    light = np.maximum(light @ np.array(_TO_709, np.float32).T, 0)
    # One factor for the three colors keeps the hue of highlights.
    brightest = light.max(axis=-1, keepdims=True)
    light *= _rolled_off(brightest) / np.maximum(brightest, 1e-6)
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)


@cache
def _linear(transfer: str) -> Floats:
    """Light of every code of 16 bits: cd/m2 for PQ, of the scene and up to 1 for HLG."""
    codes = np.linspace(0, 1, 1 << 16)
    if transfer == "PQ":
        return _from_pq(codes).astype(np.float32)
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - _C) / _A) + _B) / 12).astype(np.float32)


def _rolled_off(light: Floats) -> Floats:
    """SDR's light, 0 to 1, of light in cd/m2: as it is at first, then along a Hermite spline that ends in white."""
    top, white = _to_pq(np.array([_PEAK, _WHITE]))
    level = np.minimum(_to_pq(light) / top, 1)
    target = white / top
    knee = 1.5 * target - 0.5
    t = np.clip((level - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
    return (_from_pq(np.where(level < knee, level, spline) * top) / _WHITE).astype(np.float32)


def _from_pq(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    powered = codes ** (1 / _M2)
    return 10_000 * (np.maximum(powered - _C1, 0) / (_C2 - _C3 * powered)) ** (1 / _M1)


def _to_pq(light: NDArray[np.floating]) -> NDArray[np.float64]:
    powered = (np.asarray(light, np.float64) / 10_000) ** _M1
    return ((_C1 + _C2 * powered) / (1 + _C3 * powered)) ** _M2
