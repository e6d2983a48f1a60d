"""Which files go with a model, for the sentences that refuse a wrong one."""

TEXT_ENCODERS = {
    1024: "OpenCLIP ViT-H/14's text encoder (Stable Diffusion 2.1's)",
    768: "CLIP ViT-L/14's text encoder (Stable Diffusion 1.5's)",
}
IMAGE_ENCODERS = {1280: "the image encoder OpenCLIP ViT-H/14 (CLIP-ViT-H-14-laion2B-s32B-b79K)"}
OWN = "the model's own file"
IMAGE_PROJECTION = (
    "image_projection from Load I2V Checkpoint with a full or pruned file of this very model (a file of the U-Net "
    "alone may have none)"
)


def text_encoder(width: int) -> str:
    """The text encoder whose tokens have this width."""
    known = TEXT_ENCODERS.get(width)
    return f"{known}, or clip of {OWN}" if known else f"clip of {OWN}"


def image_encoder(width: int) -> str:
    """The image encoder whose tokens have this width."""
    known = IMAGE_ENCODERS.get(width)
    return f"{known}, or clip_vision of {OWN}" if known else f"clip_vision of {OWN}"


def autoencoder(channels: int) -> str:
    """The autoencoder whose latents have this many channels."""
    return f"the VAE of Stable Diffusion 1.5 or 2.1, or of {OWN}" if channels == 4 else f"the VAE of {OWN}"
