"""Presets against the table of what each model was trained on and is used with."""

import pytest

from i2v_core.diffusion.schedule import Schedule
from i2v_core.presets import PRESETS

# name: prediction, zero terminal SNR, rescale, spacing, eta, guidance, its rescale, height x width, rate, meaning
TABLE = """
dynamicrafter_256         eps no  -   uniform  1 7.5 0   256x256  3  frame_stride
dynamicrafter_512         v   yes 0.7 trailing 1 7.5 0.7 320x512  24 fps
dynamicrafter_1024        v   yes 0.3 trailing 1 7.5 0.7 576x1024 10 fps
dynamicrafter_512_interp  v   yes 0.7 trailing 1 7.5 0.7 320x512  10 fps
tooncrafter               v   yes 0.7 trailing 1 7.5 0.7 320x512  10 fps
videocrafter2             eps no  0.7 uniform  1 12  0   320x512  28 fps
videocrafter1_1024        eps no  0.3 uniform  1 12  0   576x1024 28 fps
videocrafter1_512         eps no  -   uniform  1 12  0   320x512  -  -
videocrafter1_i2v_512     eps no  0.7 uniform  1 12  0   320x512  8  fps
modelscope                eps no  -   uniform  0 9   0   256x256  -  -
stable_diffusion_1_5      eps no  -   uniform  0 7.5 0   512x512  -  -
stable_diffusion_2_1      v   no  -   uniform  0 7.5 0   768x768  -  -
stable_diffusion_2_1_base eps no  -   uniform  0 7.5 0   512x512  -  -
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_preset_is_its_row(row: list[str]) -> None:
    preset = PRESETS[row[0]]
    schedule = preset.schedule

    def shown(value: object) -> str:
        return "-" if value is None else str(value)

    assert row == [
        preset.name,
        preset.prediction,
        "yes" if schedule.zero_terminal_snr else "no",
        shown(schedule.rescale_base),
        preset.spacing,
        f"{preset.eta:g}",
        f"{preset.guidance:g}",
        f"{preset.guidance_rescale:g}",
        f"{preset.height}x{preset.width}",
        shown(preset.fps),
        shown(preset.fps_meaning),
    ]
    assert (preset.frames, preset.steps) == (16, 50)


def test_every_preset_is_known_by_its_own_name_and_says_where_it_is_from() -> None:
    assert set(PRESETS) == {row[0] for row in ROWS} | {"demo"}
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.source and preset.license


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_sampled_as_it_says(name: str) -> None:
    preset = PRESETS[name]
    sigmas = Schedule(preset.schedule).sigmas(preset.steps, preset.spacing)
    assert len(sigmas) == preset.steps + 1
    assert sigmas.isfinite().all()
    assert (sigmas.diff() < 0).all()


def test_zero_terminal_snr_is_sampled_from_its_last_step() -> None:
    for preset in PRESETS.values():
        if preset.schedule.zero_terminal_snr:
            assert Schedule(preset.schedule).timesteps(preset.steps, preset.spacing)[0] == 999
