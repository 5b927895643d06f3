"""What takes space here, what it is for, and what of it can go: `iml clean`.

Objects of DVC's cache and remote stay where a registered version that MLflow still has was made
from them or made them, and where this workspace or a branch or tag of git names them. Where that
cannot be known of one version, nothing is removed. Of the caches, what was not touched for some
days can go; of versions' local copies all but the champions'. Everything else stays.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.core import paths
from components.core.errors import EvidenceError
from components.core.paths import RUNS, state_dir
from components.lineage.collect import collect
from components.lineage.evidence import Evidence
from components.registry import chain, layout
from components.registry.ledger import Ledger
from components.registry.versions import Registry, registration
from components.workspace import remote
from components.workspace.imports import Import
from components.workspace.remote import MissingError, Objects

_DAY = 86_400
_CACHES = {  # what it is for, and its entries
    paths.LABEL_CACHE: ("pseudo-masks that were made; made again where missing", "*/*"),
    paths.EMBEDDING_CACHE: ("photos as the teacher sees them; computed again", "*/*"),
    paths.DISTILL_CACHE: ("trainings, which a killed run resumes from", "?????*"),  # not `data`
    paths.DISTILL_CACHE / "data": ("decoded photos; decoded again where missing", "*"),
}
_KEPT = "stays: remove it by hand"


@dataclass(frozen=True)
class Holding:
    """A place that takes space.

    Attributes:
        name: the place, for people.
        purpose: what it is for.
        bytes: how much it takes.
        going: what can go: bytes by path or object.
        remove: removes what can go.
    """

    name: str
    purpose: str
    bytes: int
    going: Mapping[str, int]
    remove: Callable[[], object] = lambda: None

    def row(self) -> dict[str, object]:
        """As plain JSON."""
        going = {"objects": sorted(self.going), "bytes": sum(self.going.values())}
        return {"what": self.name, "for": self.purpose, "bytes": self.bytes, "can_go": going}


def holdings(days: float, *, with_remote: bool) -> list[Holding]:
    """Everything that takes space here.

    Args:
        days: only what is older can go.
        with_remote: whether objects of the remote can go too.

    Raises:
        EvidenceError: what some version needs is not known.
        InputError: ledger, MLflow or remote do not answer.
    """
    before, state = time.time() - days * _DAY, state_dir()
    far, near = Objects.of_workspace(), Objects.of_cache()
    champions, needed = _versions(far)
    here, named = (_listed(names, far, near) for names in remote.named_by_git())
    lost = set(far.missing(needed | named))  # the cache alone may have them
    found = [
        _folder(f"{state.name}/{place}", state / place, *about, before)
        for place, about in _CACHES.items()
    ]
    found.append(_copies(state / paths.MODEL_CACHE, champions, before))
    why = "objects of this workspace; others are fetched from the remote when needed"
    found.append(_objects("DVC cache", why, near, here | lost, before))
    why = "photos of data sets that stay in S3, as fetched; fetched again where missing"
    old = 0 if lost else before  # this may be the last copy
    found.append(_folder("DVC cache, fs", near.fetched, why, "*/*", old))
    why = "what versions, branches and tags were made from and made"
    found.append(_objects("DVC remote", why, far, needed | named, before if with_remote else 0))
    found.append(Holding(str(RUNS), f"results of stages and commands; {_KEPT}", _size(RUNS), {}))
    rest = {p for p in state.iterdir() if p.name not in _accounted(near, far)}
    what = f"MLflow, ledger, keys, decisions, weights, drafts; {_KEPT}"
    found.append(Holding(f"{state.name}, other", what, sum(map(_size, rest)), {}))
    return found


def _accounted(*stores: Objects) -> set[str]:
    """Names in the state folder that have a holding of their own."""
    state = state_dir()
    places = (Path(store.name) for store in stores if store.local)
    inner = {p.relative_to(state).parts[0] for p in places if p.is_relative_to(state)}
    return {str(paths.CACHE), *inner}


def _versions(far: Objects) -> tuple[set[str], set[str]]:
    """Signatures of champions, and the objects of every version that MLflow has.

    The remote `far` learns which of them stay in S3.
    """
    champions, needed, found = set(), set(), list[Import]()
    for model in Ledger().models():
        registry = Registry.open(model)
        rows = registry.rows()
        if (champion := chain.champion(rows)) is not None:
            facts = registration(rows, champion).facts()
            champions.add(str(facts.get(layout.SIGNATURE_HASH)))
        for version in registry.present(rows):
            with collect(f"{model}/{version}", whole=False) as evidence:
                needed |= set(_needs(evidence))
                found += [one for one in evidence.imports() if one not in found]
    far.imports = lambda: found
    return champions, needed


def _needs(evidence: Evidence) -> Iterator[str]:
    """The objects of a version; raises EvidenceError where they are not known."""
    try:
        for path, md5 in {**evidence.inputs(), **evidence.outs()}.items():
            yield md5
            if md5.endswith(".dir"):
                yield from evidence.listing(path, md5).values()
    except EvidenceError as error:
        what = f"what {evidence.name} needs is not known ({error.what}), so nothing can go"
        raise EvidenceError(what, where=error.where, hint=f"iml audit {evidence.name}") from None


def _listed(names: set[str], *stores: Objects) -> set[str]:
    """Objects and what folders among them list, as far as a store has the listing.

    Raises EvidenceError for a listing that was changed.
    """
    found = set(names)
    for md5 in (name for name in names if name.endswith(".dir")):
        for store in stores:
            with suppress(MissingError):
                found |= set(remote.listed(store.read(md5), md5).values())
    return found


def _objects(name: str, why: str, store: Objects, keep: set[str], before: float) -> Holding:
    every = store.sizes()
    going = {md5: size for md5, (size, time) in every.items() if md5 not in keep and time < before}
    total = sum(size for size, _ in every.values())
    return Holding(name, why, total, going, lambda: store.remove(going))


def _folder(name: str, place: Path, why: str, pattern: str, before: float) -> Holding:
    entries = list(place.glob(pattern))
    going = {str(path): _size(path) for path in entries if _touched(path) < before}
    return Holding(name, why, sum(map(_size, entries)), going, lambda: _remove(going))


def _copies(folder: Path, champions: set[str], before: float) -> Holding:
    """Local copies of versions; beside them lies what is remembered of champions."""
    entries = [path for path in folder.glob("*") if path.is_dir()]
    going = {
        str(path): _size(path)
        for path in entries
        if path.name not in champions and _touched(path) < before
    }
    why = "versions as fetched from MLflow; champions' stay, others are fetched again"
    name = str(folder.relative_to(state_dir().parent))
    return Holding(name, why, sum(map(_size, entries)), going, lambda: _remove(going))


def _remove(entries: Mapping[str, int]) -> None:
    for path in map(Path, entries):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _files(path: Path) -> list[Path]:
    if not os.path.lexists(path):
        return []
    found = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return [file for file in found if not file.is_dir()]


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _touched(path: Path) -> float:
    """When anything in it was last changed."""
    return max((file.lstat().st_mtime for file in (path, *_files(path))), default=0.0)
