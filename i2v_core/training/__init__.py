"""Training: configuration, data, losses and the loop; the same for every method."""
