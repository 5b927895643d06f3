"""README and docs as data: the commands of their shell blocks, their inline code, their links."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from project import ROOT

# In the order in which one reader in one clone walks them; OPERATIONS wants a clone of its own.
WALKED = (
    "README.md",
    "docs/PROMOTION.md",
    "docs/AUDIT.md",
    "docs/STUDENT.md",
    "docs/OPERATIONS.md",
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"""(?m)("(?:\\.|[^"\\])*"|'[^']*')|(?:^|(?<=\s))#.*$""")  # or a quoted text
_EXIT = re.compile(r"# exit code (\d)\b")
_SEPARATORS = "();<>|&\n"


@dataclass(frozen=True)
class Command:
    """One complete command of a shell block.

    Attributes:
        document: path of the file below the project.
        line: where it begins, from 1.
        text: as it is written, comments included; several lines for a loop or a here-document.
    """

    document: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.document}:{self.line}: {self.text}"

    @property
    def exit_code(self) -> int:
        """What its comment promises (`# exit code 2: why`), else 0."""
        found = _EXIT.search(self.text)
        return int(found[1]) if found else 0


def commands(document: str, root: Path = ROOT) -> list[Command]:
    """Every command of a document's shell blocks, in order."""
    text = (root / document).read_text(encoding="utf-8")
    found = []
    for block in _FENCE.finditer(text):
        assert block[1] == "sh", f"{document}: a block of kind {block[1]!r}, which nobody walks"
        first = text.count("\n", 0, block.start(2)) + 1
        found += [Command(document, first + at, part) for at, part in _split(block[2])]
    return found


def _split(block: str) -> Iterator[tuple[int, str]]:
    """Complete commands with the number of their first line: bash says where one ends."""
    kept: list[str] = []
    for number, line in enumerate(block.splitlines()):
        if not kept and (not line.strip() or line.lstrip().startswith("#")):
            continue
        kept.append(line)
        if _complete("\n".join(kept)):
            yield number - len(kept) + 1, "\n".join(kept)
            kept = []
    assert not kept, f"not a complete command: {kept}"


def _complete(text: str) -> bool:
    if text.endswith("\\"):
        return False
    # An unfinished here-document is only a warning.
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0 and not done.stderr


def programs(text: str) -> list[list[str]]:
    """The words of each simple command in a shell command, without comments and redirections."""
    bare = _COMMENT.sub(lambda found: found[1] or "", text).replace("\\\n", " ")
    lexer = shlex.shlex(bare, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace_split, lexer.commenters, lexer.whitespace = True, "", " \t\r"
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(_SEPARATORS):
            if word[0] in "<>":
                found[-1] = [w for w in found[-1] if not w.isdigit()]
            found.append([])
        elif found[-1] or not re.match(r"\w+=", word):
            found[-1].append(word)
    return [words for words in found if words]


def inline_code(document: str, root: Path = ROOT) -> list[str]:
    """Every piece of inline code, on one line each."""
    text = _FENCE.sub("", (root / document).read_text(encoding="utf-8"))
    return [" ".join(code.split()) for code in _CODE.findall(text)]


def links(document: str, root: Path = ROOT) -> list[str]:
    """The targets of a document's links that lie in the project, without anchors."""
    text = _FENCE.sub("", (root / document).read_text(encoding="utf-8"))
    targets = (target.partition("#")[0] for target in _LINK.findall(text))
    return [target for target in targets if target and "://" not in target]
