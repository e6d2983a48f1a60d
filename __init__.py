"""Image-to-video nodes for ComfyUI. The import waits so that i2v_core can be tested without ComfyUI."""

# Help pages. Not `web` in pyproject.toml, which would serve them under the project's name: the front end asks
# for them under the folder's name, and a git clone may have any.
WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # noqa: ANN201 (its type must not be imported here)
    from .nodes import I2VExtension

    return I2VExtension()
