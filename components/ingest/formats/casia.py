"""What the file names of CASIA v1 and v2 say: source photos and kind of manipulation.

`Sp_D_CND_A_pla0005_pla0023_0281` (v1) and `Tp_D_CNN_M_N_ani00052_ani00054_11130` (v2) are splices
(D: two different photos) of pla0005 and pla0023; `_S_` is a copy-move (same photo). In v1 the
letter before the ids is the shape of the region: A arbitrary, R, C and T geometric.
"""

from __future__ import annotations

import re

_AUTHENTIC = re.compile(r"^Au_([a-z]{3})_(\d+)$", re.IGNORECASE)
_MANIPULATED = re.compile(
    r"^(?:Sp|Tp)_(?P<from>[DS])_[A-Z]{3}_(?:(?P<shape>[ARCT])|[A-Z]_[A-Z])_"
    r"(?P<first>[a-z]{3}\d+)_(?P<second>[a-z]{3}\d+)[_.]\d+",
    re.IGNORECASE,
)


def origins(stem: str) -> tuple[str, ...]:
    """The ids of the source photos in a file name, e.g. `("pla0005", "pla0023")`."""
    if match := _AUTHENTIC.match(stem):
        return (f"{match[1]}{match[2]}".lower(),)
    if match := _MANIPULATED.match(stem):
        return tuple(sorted({match["first"].lower(), match["second"].lower()}))
    return ()


def kind(stem: str) -> str | None:
    """E.g. `splice/free`, `copy-move/geometric`; `splice` where the name tells no shape."""
    match = _MANIPULATED.match(stem)
    if match is None:
        return None
    act = "splice" if match["from"].upper() == "D" else "copy-move"
    if match["shape"] is None:
        return act
    return f"{act}/free" if match["shape"].upper() == "A" else f"{act}/geometric"
