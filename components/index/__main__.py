"""Stage `index`: look at every photo of one data set.

`python -m components.index DATASET` writes runs/index/DATASET/. Of several data sets only the one
that changed is looked at again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from components.core import params
from components.core.errors import InputError, exit_on_error
from components.core.paths import DATA, INDEXED
from components.data.index import index, write


def main(arguments: Sequence[str]) -> None:
    """Index the one data set named on the command line; raises InputError for an unusable one."""
    settings = params.load().prepare
    if len(arguments) != 1 or arguments[0] not in settings.datasets:
        known = ", ".join(settings.datasets)
        raise InputError(
            f"expected one of prepare.datasets ({known}), not {' '.join(arguments)!r}",
            where="index",
        )
    write(INDEXED / arguments[0], index(DATA / arguments[0], settings))


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
