"""The networks: one family of modules per file, its configuration above it. Nothing here knows of diffusion."""
