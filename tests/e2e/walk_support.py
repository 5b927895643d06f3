"""A reader in a fresh clone: one shell a document, what the texts ask of him, what he cannot do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from documents import Command
from project import ROOT

from components.core.images import SUFFIXES
from components.synthesis.synthesize import synthesize

PREFIX = Path(sys.prefix)
LIMIT = 900  # seconds for one command

# A quick look instead of a training: what params.yaml says, and what the reader commits instead.
QUICK = {
    "  size: 192 ": "  size: 64 ",
    "  channels: 48 ": "  channels: 16 ",
    "  prototypes: 32 ": "  prototypes: 8 ",
    "  epochs: 16 ": "  epochs: 3 ",
    "  bootstrap: 1000 ": "  bootstrap: 100 ",
    "sizes: [[256, 256], [192, 320]]": "sizes: [[64, 64], [64, 96]]",
    "min_f1: 0.05 ": "min_f1: 0.0 ",
    "min_image_auc: 0.50 ": "min_image_auc: 0.0 ",
    "min_photos: 10 ": "min_photos: null ",
    "min_groups: 5 ": "min_groups: null ",
    "max_false_alarm_area: 0.20 ": "max_false_alarm_area: 1.0 ",
    "champion_margin: 0.02 ": "champion_margin: 1.0 ",
    "champion_alarm_margin: 0.01 ": "champion_alarm_margin: 1.0 ",
    "superiority: true ": "superiority: false ",
}


@dataclass(frozen=True)
class Deviation:
    """A command that does not run as it is written.

    Attributes:
        document: where it is.
        part: what is in its text, and in no other command's of the document.
        reason: why.
        instead: what `part` is replaced by; None: the command is left out.
    """

    document: str
    part: str
    reason: str
    instead: str | None = None


DEVIATIONS = (
    Deviation("README.md", "make test", "this test is a part of it"),
    Deviation(
        "docs/OPERATIONS.md",
        "https://catalogue.example",
        "the address of somebody's lineage server",
    ),
    Deviation("docs/OPERATIONS.md", "/etc/openlineage.yml", "a file of somebody's lineage server"),
    Deviation(
        "docs/STUDENT.md",
        "--steps 3000",
        "hours of training",
        instead="--steps 4 --every 2 --size 64 --batch 4",
    ),
)


def unused(deviations: Iterable[Deviation], found: Iterable[Command]) -> list[Deviation]:
    """Deviations that do not match exactly one command."""
    known = list(found)
    return [
        e
        for e in deviations
        if sum(e.document == c.document and e.part in c.text for c in known) != 1
    ]


def as_run(command: Command) -> str | None:
    """The text that is run for a command; None where it is left out."""
    text = command.text
    for deviation in DEVIATIONS:
        if deviation.document == command.document and deviation.part in text:
            if deviation.instead is None:
                return None
            text = text.replace(deviation.part, deviation.instead)
    return text


def broken_promise(command: Command, code: int, said: str, earlier: str) -> str | None:
    """What a command did not do as its text says; None where it did all.

    Args:
        command: it.
        code: its exit code.
        said: what it printed.
        earlier: what the command before it printed.
    """
    if code != command.exit_code:
        return f"exit code {code} instead of {command.exit_code}"
    if found := re.search(r"Traceback \(most recent call last\)|\b(EDITED|CHANGED)\b", said):
        return f"it says {found[0]}"
    if "# must be equal" in command.text:
        pair = re.findall(r"\b[0-9a-f]{64}\b", earlier + said)[-2:]
        return None if len(pair) == 2 and pair[0] == pair[1] else f"not equal: {pair}"
    return None


class Shell:
    """One bash, as a reader has it open: variables, folder and background jobs stay."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self.log, self._typed = log, log.with_suffix(".sh")
        read, write = os.pipe()
        self._codes, self._fd = os.fdopen(read), write
        with log.open("w") as output:
            self._process = subprocess.Popen(
                ["bash", "--norc"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[write],
                start_new_session=True,
            )
        os.close(write)

    def run(self, text: str) -> tuple[int, str]:
        """Type a command; gives its exit code and what it printed."""
        self._typed.write_text(text + "\n")
        begin = self.log.stat().st_size
        alarm = signal.signal(signal.SIGALRM, self._too_long)
        signal.alarm(LIMIT)
        try:
            assert self._process.stdin is not None
            line = f". {self._typed} </dev/null {self._fd}>&-; echo $? >&{self._fd}\n"
            self._process.stdin.write(line)
            self._process.stdin.flush()
            code = self._codes.readline()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
        with self.log.open(errors="replace") as output:
            output.seek(begin)
            said = output.read()
        assert code, f"the shell ended: {text}\n{said[-3000:]}"
        return int(code), said

    def _too_long(self, *_: object) -> None:
        raise TimeoutError(f"not done within {LIMIT} s:\n{self._typed.read_text()}")

    def close(self) -> None:
        """End the shell and what it left in the background."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._codes.close()


@dataclass(frozen=True)
class Reader:
    """Somebody with a clone of the project and a home of his own."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, code: int | None = 0) -> str:
        """A command in the clone; gives what it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code in (None, done.returncode), (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def walk(
        self,
        found: Sequence[Command],
        before: dict[str, Callable[[], None]] | None = None,
        log: Path | None = None,
    ) -> None:
        """Run commands in one shell, in order; each must end with the code that it promises.

        Args:
            found: the commands.
            before: what the reader does first, by the text with which a command begins.
            log: what they printed.
        """
        todo, earlier = dict(before or {}), ""
        shell = Shell(self.folder, self.environment, log or self.folder.with_suffix(".log"))
        try:
            for command in found:
                for start in [start for start in todo if command.text.startswith(start)]:
                    todo.pop(start)()
                    shell.run(f"cd '{self.folder}'")  # which may be another one by now
                text = as_run(command)
                if text is None:
                    continue
                begin = time.monotonic()
                code, said = shell.run(text)
                print(f"{time.monotonic() - begin:6.1f} s  {command.place}")
                wrong = broken_promise(command, code, said, earlier)
                assert not wrong, f"{command.place}\n{wrong}\n{said[-4000:]}"
                earlier = said
        finally:
            shell.close()
        assert not todo, f"no command begins with {list(todo)}"


def settle(folder: Path, home: Path) -> Reader:
    """A clone of this project's last commit at `folder`, quick parameters committed in it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n\tname = Reader\n\temail = reader@example.org\n")
    kept = ("LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TERM", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    path = [p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != PREFIX / "bin"]
    environment |= {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(folder / ".venv/bin"), *path]),
        # The environment is shared; the code is the clone's.
        "PYTHONPATH": str(folder),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MAKEFLAGS": "",
    }
    reader = Reader(folder, environment)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, text=True)
    lend_environment(folder)
    params = (folder / "params.yaml").read_text()
    for old, new in QUICK.items():
        assert params.count(old) == 1, old
        params = params.replace(old, new)
    (folder / "params.yaml").write_text(params)
    reader.run("git", "commit", "--quiet", "--all", "--message", "A quick look")
    return reader


def lend_environment(folder: Path) -> None:
    """Make `.venv` of a clone: this one's packages, so that `make install` has nothing to do."""
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "lib64", "include", "s3", "pyvenv.cfg"):
        if (PREFIX / name).exists():
            (folder / ".venv" / name).symlink_to(PREFIX / name)
    (folder / ".venv/.installed").touch()


def pictures(name: str) -> list[Path]:
    """The bundled photos or cut-outs."""
    folder = ROOT / "data/demo-sources" / name
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def provide(home: Path) -> None:
    """What README and docs take to be in the reader's home, of the kind they say.

    `annotations.json`: a COCO index of photos beside it, with true masks; `more`: a folder of more
    photos with their index; `photo.jpg`: one of these; `inbox`: photos; `bsds500/images`: photos.
    """
    _photos(home, "annotations.json", manipulated=28, seed=11)
    _photos(home / "more", "annotations.json", manipulated=8, seed=12)
    more = sorted((home / "more/photos").iterdir())
    shutil.copyfile(next(p for p in more if p.suffix == ".jpg"), home / "photo.jpg")
    shutil.copytree(home / "more/photos", home / "inbox")
    (home / "bsds500/images").mkdir(parents=True)
    for photo in pictures("photos"):
        shutil.copyfile(photo, home / "bsds500/images" / photo.name)


def _photos(folder: Path, index: str, *, manipulated: int, seed: int) -> None:
    """A COCO index of made photos that lie, with their masks, beside it."""
    made = folder / "made"
    synthesize(
        made,
        pictures("photos"),
        pictures("cutouts"),
        manipulated=manipulated,
        authentic=manipulated // 2,
        seed=seed,
        jitter=0.1,
        licence="",
        source="",
        progress=lambda done, total: None,
    )
    text = (made / "boxes.json").read_text()
    values = json.loads(text)
    for image in values["images"]:
        name = f"street-{seed}-{Path(image['file_name']).name}"
        (made / "photos" / image["file_name"]).rename(made / "photos" / name)
        image["file_name"] = f"photos/{name}"
    (folder / index).write_text(json.dumps(values))
    for name in ("photos", "masks"):
        (made / name).rename(folder / name)
    shutil.rmtree(made)
