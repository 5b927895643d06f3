"""Core: what nearly every package needs: errors, files, parameters, seeds, images, metrics."""
