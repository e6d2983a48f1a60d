"""Networks that turn clips into features, read from local files only: CLIP, I3D, C3D, Inception, optical flow."""
