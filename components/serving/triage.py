"""The triage page: photos by score, the most suspicious first, and those nobody was told about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from components import pages
from components.files import write_text

PAGE = "triage.html"
SHOWN = 500  # photos with a picture; the table has all


def write(out: Path, table: pd.DataFrame, about: Mapping[str, object]) -> None:
    """Write the page beside the overlays that it shows.

    Args:
        out: folder of the results.
        table: columns of `components.serving.score.SCORES`, by score.
        about: `source` and the fields of `components.serving.origin.Origin`.
    """
    scored = table[table["score"].notna()]
    others = table[table["score"].isna()]
    values = {
        "about": about,
        "scored": scored.head(SHOWN).to_dict("records"),
        "n_scored": len(scored),
        "others": others.head(SHOWN).to_dict("records"),
        "n_others": len(others),
    }
    write_text(out / PAGE, pages.render(Path(__file__).with_name("triage.html"), values))
