"""The only files that touch the host's internals, which change from version to version."""
