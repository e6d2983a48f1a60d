"""The kinds of file that can be written: one table, from which the nodes take their list."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .planes import PixelFormat

Options = Mapping[str, str]

_YUV420 = PixelFormat("yuv420p", 8, "yuv", (2, 2))
_YUV420_10 = PixelFormat("yuv420p10le", 10, "yuv", (2, 2))
_YUVA420 = PixelFormat("yuva420p", 8, "yuva", (2, 2))
_YUV422_10 = PixelFormat("yuv422p10le", 10, "yuv", (1, 2))
_YUVA444_10 = PixelFormat("yuva444p10le", 10, "yuva")
_RGB, _RGBA = PixelFormat("rgb24", 8, "rgb"), PixelFormat("rgba", 8, "rgba")
_RGB_16, _RGBA_16 = PixelFormat("rgb48be", 16, "rgb"), PixelFormat("rgba64be", 16, "rgba")
_BGRX, _BGRA = PixelFormat("bgr0", 8, "bgr0"), PixelFormat("bgra", 8, "bgra")
_BGRA_OPAQUE = PixelFormat("bgra", 8, "bgr0")
_GBR_10, _GBRA_10 = PixelFormat("gbrp10le", 10, "gbr"), PixelFormat("gbrap10le", 10, "gbra")
_GBR_16, _GBRA_16 = PixelFormat("gbrp16le", 16, "gbr"), PixelFormat("gbrap16le", 16, "gbra")

# What the presets are on H.264's scale of crf, which every format translates to its own.
QUALITIES = {"best": 12, "high": 17, "web": 23, "small": 30}


@dataclass(frozen=True)
class VideoFormat:
    """A kind of file and how it is written, in FFmpeg's names.

    `pixels` are by bits per channel, the usual depth first; frames with transparency take those of `alpha`, and lose
    it if there are none. `settings` translates a crf of H.264, `alpha_options` come with transparency. `embeds` says
    where the workflow goes: into the container's tags, a picture's own chunks, or nowhere.
    """

    suffix: str
    mime: str
    muxer: str
    encoder: str
    pixels: tuple[PixelFormat, ...]
    alpha: tuple[PixelFormat, ...] = ()
    settings: Callable[[int], Options] = lambda crf: {}
    options: Options = field(default_factory=dict)
    alpha_options: Options = field(default_factory=dict)
    muxer_options: Options = field(default_factory=dict)
    codec_tag: str | None = None
    audio: str | None = None
    embeds: str | None = "tags"
    # Options that make an animation play this often, 0 meaning endlessly; films play once, and repeat their frames.
    loop: Callable[[int], Options] | None = None
    fastest: int = 1000  # frames per second

    @property
    def is_sequence(self) -> bool:
        return self.muxer == "image2"

    @property
    def is_film(self) -> bool:
        """It is a video to players and editors, and not an animation or pictures."""
        return self.mime.startswith("video/")

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(pixels.bits for pixels in self.pixels)


def _crf(crf: int) -> Options:
    return {"crf": str(crf)}


def _crf_of_63(crf: int) -> Options:
    """VP9 and AV1 count to 63 where H.264 counts to 51."""
    return {"crf": str(round(crf * 63 / 51))}


def _prores_profile(crf: int) -> Options:
    """HQ, standard or LT, by number, because not every FFmpeg knows the names."""
    return {"profile": "3" if crf <= 17 else "2" if crf <= 23 else "1"}


# Tags of our own survive in mp4 and mov only with use_metadata_tags; faststart puts the index before the pictures.
_MP4 = {"movflags": "use_metadata_tags+faststart"}
_AV1 = {"preset": "8"}
# Without a bit rate of zero, crf is only a lower bound of quality. Alternate reference frames break transparency.
_VP9 = {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_YUV420_BOTH = (_YUV420, _YUV420_10)

FORMATS: Mapping[str, VideoFormat] = {
    "mp4 h264": VideoFormat(
        ".mp4", "video/mp4", "mp4", "libx264", _YUV420_BOTH, settings=_crf, muxer_options=_MP4, audio="aac"
    ),
    "mp4 h265": VideoFormat(
        ".mp4",
        "video/mp4",
        "mp4",
        "libx265",
        _YUV420_BOTH,
        settings=_crf,
        options={"x265-params": "log-level=error"},
        muxer_options=_MP4,
        codec_tag="hvc1",  # Apple's players refuse the encoder's own, hev1
        audio="aac",
    ),
    "mp4 av1": VideoFormat(
        ".mp4",
        "video/mp4",
        "mp4",
        "libsvtav1",
        _YUV420_BOTH,
        settings=_crf_of_63,
        options=_AV1,
        muxer_options=_MP4,
        audio="aac",
    ),
    "webm vp9": VideoFormat(
        ".webm",
        "video/webm",
        "webm",
        "libvpx-vp9",
        (_YUV420,),
        (_YUVA420,),
        settings=_crf_of_63,
        options=_VP9,
        alpha_options={"auto-alt-ref": "0"},
        audio="libopus",
    ),
    "webm av1": VideoFormat(
        ".webm", "video/webm", "webm", "libsvtav1", _YUV420_BOTH, settings=_crf_of_63, options=_AV1, audio="libopus"
    ),
    "mov prores": VideoFormat(
        ".mov",
        "video/quicktime",
        "mov",
        "prores_ks",
        (_YUV422_10,),
        (_YUVA444_10,),
        settings=_prores_profile,
        options={"vendor": "apl0"},
        alpha_options={"profile": "4", "alpha_bits": "16"},
        muxer_options=_MP4,
        audio="pcm_s16le",
    ),
    "mkv ffv1": VideoFormat(
        ".mkv",
        "video/x-matroska",
        "matroska",
        "ffv1",
        (_BGRX, _GBR_10, _GBR_16),
        (_BGRA, _GBRA_10, _GBRA_16),
        options={"level": "3", "g": "1", "slicecrc": "1"},
        audio="flac",
    ),
    "gif": VideoFormat(
        ".gif",
        "image/gif",
        "gif",
        "gif",
        (_BGRA_OPAQUE,),  # before it is reduced to a palette
        embeds=None,
        loop=lambda plays: {"loop": str({0: 0, 1: -1}.get(plays, plays - 1))},
        fastest=50,  # browsers slow anything faster down to ten frames per second
    ),
    "webp": VideoFormat(
        ".webp",
        "image/webp",
        "webp",
        "libwebp_anim",
        (_BGRA_OPAQUE,),
        (_BGRA,),
        settings=lambda crf: {"quality": str(100 - crf)},
        embeds="webp",
        loop=lambda plays: {"loop": str(plays)},
    ),
    "webp lossless": VideoFormat(
        ".webp",
        "image/webp",
        "webp",
        "libwebp_anim",
        (_BGRA_OPAQUE,),
        (_BGRA,),
        options={"lossless": "1"},
        embeds="webp",
        loop=lambda plays: {"loop": str(plays)},
    ),
    "apng": VideoFormat(
        ".png",
        "image/png",
        "apng",
        "apng",
        (_RGB, _RGB_16),
        (_RGBA, _RGBA_16),
        options={"pred": "mixed"},
        embeds="png",
        loop=lambda plays: {"plays": str(plays)},
    ),
    "png sequence": VideoFormat(
        "", "image/png", "image2", "png", (_RGB, _RGB_16), (_RGBA, _RGBA_16), options={"pred": "mixed"}, embeds="png"
    ),
}
