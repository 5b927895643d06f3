"""Stage `pseudo_label`: boxes to pseudo-masks. Usage: python -m components.pseudo_label."""

from __future__ import annotations

import logging

from components.core import params, paths
from components.core.errors import exit_on_error
from components.core.progress import lines
from components.data import manifest
from components.pseudo_label import registry
from components.pseudo_label.label import label_dataset


def main() -> None:
    """Label the prepared photos."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with exit_on_error():
        settings = params.load()
        wanted = settings.pseudo_label
        weights = registry.get(wanted.teacher).weights
        if weights and not wanted.checkpoint and not weights.on_disk():
            weights.fetch_with_bar()
        labels = label_dataset(
            manifest.read(paths.PREPARED),
            paths.DATA,
            wanted,
            paths.PSEUDO_LABELED,
            paths.state_dir() / paths.LABEL_CACHE,
            progress=lines(f"pseudo-masks ({wanted.teacher})"),
        )
        accepted = int(labels["accepted"].sum())
        print(f"{len(labels)} photos labelled by {wanted.teacher}, {accepted} accepted")


if __name__ == "__main__":
    main()
