"""HDR becomes SDR: mid-tones as they are, highlights rolled off, hues kept."""

import numpy as np
import pytest

from i2v_core.video.hdr import to_sdr


def grey(codes: list[float], transfer: str) -> np.ndarray:
    """What grey of these codes, 0 to 1, becomes."""
    picture = np.rint(np.array(codes) * 65535).astype(np.uint16)[None, :, None].repeat(3, 2)
    shown = to_sdr(picture, transfer)[0]
    assert np.ptp(shown.astype(int), axis=1).max() <= 1  # grey stays grey
    return shown[:, 0].astype(int)


# BT.2408, table 1: what reflects 18 % and 100 % of the light, as codes of HLG and PQ; 203 cd/m2 is white paper.
@pytest.mark.parametrize(("transfer", "middle", "white"), [("PQ", 0.38, 0.58), ("HLG", 0.38, 0.75)])
def test_middle_grey_is_as_bright_as_it_was(transfer: str, middle: float, white: float) -> None:
    below, at_white = grey([middle, white], transfer)
    assert below == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=3)
    assert 200 < at_white < 250


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_levels_ascend_from_black_to_white(transfer: str) -> None:
    levels = grey(list(np.linspace(0, 1, 200)), transfer)
    assert (levels[0], levels[-1]) == (0, 255)
    assert (np.diff(levels) >= 0).all()


def test_a_color_of_the_smaller_gamut_keeps_its_hue() -> None:
    # BT.2087: what BT.2020 calls pure red of BT.709, at 100 cd/m2, in PQ.
    light = 100 * np.array([0.6274, 0.0691, 0.0164]) / 10_000
    powered = light ** (2610 / 16384)
    codes = ((3424 / 4096 + 2413 / 128 * powered) / (1 + 2392 / 128 * powered)) ** (2523 / 32)
    red, green, blue = to_sdr(np.rint(codes * 65535).astype(np.uint16)[None, None], "PQ")[0, 0]
    assert red == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=3)
    assert max(green, blue) < 20
