"""Erasing photos: signed tombstones first, then everything that holds their pixels.

    stones = plan("demo", ["a.jpg"], reason="asked for by the person shown", who="ann")
    done = erase(stones)

Photos, masks and pseudo-masks are known by the listings of folders in DVC's cache and remotes.
Contact sheets and pages show several photos at once and go altogether, but for those of versions
that did not use the photos; so do the caches, which are only computed again. `erase` may be
repeated: killed at any point, it is finished by the same call.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path

from components import workspace
from components.core.errors import CheckError, EvidenceError, InputError
from components.core.files import inside, sha256_bytes, sha256_file
from components.core.paths import (
    CACHE,
    CLONE,
    DATA,
    DECISIONS,
    MODEL_CACHE,
    RUNS,
    TOMBSTONES,
    state_dir,
)
from components.data.dataset import INDEX, PHOTOS, Dataset, load, save
from components.ingest import outcomes
from components.lineage import photos
from components.lineage.collect import collect
from components.lineage.evidence import Evidence
from components.registry import tombstones
from components.registry.ledger import Ledger
from components.registry.tombstones import Tombstone
from components.registry.versions import Registry
from components.workspace.remote import Objects, listed, md5_of

_PICTURES = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".html": b"data:image"}
_HEAD = 16
_UNKNOWN = "?"  # how a version used a photo, where it cannot be read


@dataclass(frozen=True)
class Erased:
    """What was done: counts of what was removed, and what a person still has to do."""

    objects: int
    files: int
    notes: list[str]


_Place = tuple[str, str]  # a folder's listing, and the path in it


@dataclass
class _Survey:
    """What is in DVC's cache and remotes, and what versions were made from."""

    stores: dict[Objects, list[str]]  # with the names of all their objects
    listings: dict[str, dict[str, str]] = field(default_factory=dict)
    masks: dict[str, dict[str, str]] = field(default_factory=dict)  # by listing: photo to its mask
    kept: set[str] = field(default_factory=set)  # outputs of versions that did not use the photos

    @cached_property
    def places(self) -> dict[str, set[_Place]]:
        """Every place of a file in a folder, by its MD5."""
        found = defaultdict(set)
        for listing, files in self.listings.items():
            for path, md5 in files.items():
                found[md5].add((listing, path))
        return dict(found)


def plan(dataset: str, names: Sequence[str], *, reason: str, who: str) -> list[Tombstone]:
    """The tombstones of some photos; those that have been written already as they are.

    Nothing is changed.

    Args:
        dataset: name of the data set.
        names: of photos in it, or SHA-256 of photos.
        reason: why they are erased.
        who: erases them.

    Raises:
        InputError: no such data set or photo, or no photo would be left.
        EvidenceError: a tombstone of one of them was forged.
    """
    known = tombstones.read(TOMBSTONES)
    found, digest = load(DATA / dataset), cache(sha256_file)
    targets: dict[str, Tombstone] = {}
    for name in names:
        stone = _stone(found, dataset, name, known.photos, digest)
        if problem := known.problems.get(str(tombstones.place(stone.sha256))):
            raise problem
        targets[stone.sha256] = known.photos.get(stone.sha256, stone)
    new = [stone for sha, stone in targets.items() if sha not in known.photos]
    if not new:
        return list(targets.values())
    if len(found.images) <= len(new):
        raise InputError("no photo would be left", where=str(found.root))
    survey = _survey()
    uses, files = _versions(new, survey)
    own = _own_objects(new, survey)
    pictures = list(_pictures(survey))
    when = datetime.now(UTC).isoformat(timespec="seconds")
    made = {
        stone.sha256: replace(
            stone,
            objects=tuple(sorted({stone.md5, *own[stone.sha256], *pictures})),
            listings=tuple(sorted({listing for listing, _ in survey.places.get(stone.md5, ())})),
            files=files if uses[stone.sha256] else {},
            versions=uses[stone.sha256],
            reason=reason,
            who=who,
            when=when,
        )
        for stone in new
    }
    return [made.get(sha, stone) for sha, stone in targets.items()]


def _stone(
    found: Dataset,
    dataset: str,
    name: str,
    known: Mapping[str, Tombstone],
    digest: Callable[[Path], str],
) -> Tombstone:
    """The beginning of a photo's tombstone, from its name or SHA-256."""
    name = name.removeprefix(f"{found.root}/").removeprefix(f"{PHOTOS}/")
    for image in found.images:
        path = found.root / PHOTOS / image["file_name"]
        if image["file_name"] == name or (len(name) == 64 and digest(path) == name):
            data, named = path.read_bytes(), sha256_bytes(image["file_name"].encode())
            return Tombstone(dataset, named, sha256_bytes(data), md5_of(data), len(data))
    named = sha256_bytes(name.encode())
    for stone in known.values():
        if name == stone.sha256 or (stone.dataset, stone.name_sha256) == (dataset, named):
            return stone
    hint = f"name it as in {INDEX}, or give its SHA-256"
    raise InputError(f"there is no photo {name!r}", where=str(found.root), hint=hint)


def _stores() -> list[Objects]:
    return [Objects.of_cache(), *Objects.of_remotes()]


def _survey() -> _Survey:
    """Every folder's listing in the cache and the remotes, with the masks of data sets."""
    found = _Survey({store: store.all() for store in _stores()})
    for store, names in found.stores.items():
        for name in names:
            if not name.endswith(".dir") or name in found.listings:
                continue
            with suppress(EvidenceError):  # a damaged one names nothing
                files = found.listings[name] = listed(store.read(name), name)
                if INDEX in files:
                    found.masks[name] = _masks(_mapping(store.read(files[INDEX])))
    return found


def _mapping(data: bytes) -> Mapping[str, object]:
    """A mapping from JSON; empty for anything else."""
    with suppress(ValueError):
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    return {}


def _masks(index: Mapping[str, object]) -> dict[str, str]:
    """Masks by photo of a data set's index."""
    rows = index.get("images")
    return {
        f"{PHOTOS}/{row['file_name']}": row["mask"]
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and row.get("file_name") and row.get("mask")
    }


def _own_objects(stones: Sequence[Tombstone], survey: _Survey) -> dict[str, set[str]]:
    """MD5 of each photo's masks and pseudo-masks that are no other photo's too, by its SHA-256."""
    datasets = sorted(path.parent.name for path in DATA.glob(f"*/{INDEX}"))
    drawn = defaultdict(set)  # places of pseudo-masks, by path
    for place in (place for found in survey.places.values() for place in found):
        if INDEX not in survey.listings[place[0]]:
            drawn[place[1]].add(place)
    own: dict[str, set[_Place]] = {}
    for stone in stones:
        places = survey.places.get(stone.md5, set())
        own[stone.sha256] = {*places}
        for name in {path.removeprefix(f"{PHOTOS}/") for _, path in places}:
            for path in (f"{name}.png", *(f"{dataset}/{name}.png" for dataset in datasets)):
                own[stone.sha256] |= drawn[path]
            for listing, masks in survey.masks.items():
                mask = masks.get(f"{PHOTOS}/{name}")
                if mask in survey.listings[listing]:
                    own[stone.sha256].add((listing, mask))
    every = set().union(*own.values())
    return {
        sha: {
            md5
            for md5 in (survey.listings[listing][path] for listing, path in places)
            if survey.places[md5] <= every
        }
        for sha, places in own.items()
    }


def _versions(
    stones: Sequence[Tombstone], survey: _Survey
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """How each photo was used, by version; SHA-256 of the files that show photos in their folders.

    Of versions that used none of them, outputs are noted as kept.
    """
    uses: dict[str, dict[str, str]] = {stone.sha256: {} for stone in stones}
    files: dict[str, str] = {}
    for name in _registered():
        with collect(name) as evidence:
            used = _used(evidence, stones)
            if not any(used.values()):
                survey.kept |= set(evidence.outs().values())
                continue
            for sha, use in used.items():
                uses[sha] |= {name: use} if use else {}
            for path in sorted(p for p in evidence.files.rglob("*") if shows(p)):
                place = path.relative_to(evidence.files).as_posix()
                if not place.startswith("code/"):
                    files[f"{name}/{place}"] = sha256_file(path)
    return uses, files


def _registered() -> Iterator[str]:
    """`MODEL/VERSION` of every version that the registry has, of all models."""
    for model in Ledger().models():
        registry = Registry.open(model)
        yield from (f"{model}/{n}" for n in registry.present(registry.ledger.rows(model)))


def champions(stones: Sequence[Tombstone]) -> list[str]:
    """`MODEL/VERSION` of those that were trained on one of the photos, or may have been."""
    ledger = Ledger()
    names = sorted({name for stone in stones for name in stone.versions if stone.trained(name)})
    parts = [name.rpartition("/") for name in names]
    return [f"{m}/{version}" for m, _, version in parts if str(ledger.champion(m)) == version]


def _used(evidence: Evidence, stones: Sequence[Tombstone]) -> dict[str, str]:
    """What for a version used each photo, the empty text for none, `?` where it is unknown."""
    try:
        found = photos.uses_in(evidence, {stone.sha256: {stone.md5} for stone in stones})
    except (CheckError, KeyError):
        return dict.fromkeys((stone.sha256 for stone in stones), _UNKNOWN)
    return {sha: ", ".join(dict.fromkeys(one.split for one in own)) for sha, own in found.items()}


def _pictures(survey: _Survey) -> Iterator[str]:
    """MD5 of objects that show several photos, which no folder lists: sheets and pages."""
    members, seen = survey.places.keys() | survey.kept, set[str]()
    for store, names in survey.stores.items():
        for name in names:
            if name.endswith(".dir") or name in members or name in seen:
                continue
            seen.add(name)
            with suppress(EvidenceError), store.open(name) as file:
                head = file.read(_HEAD)
                if head.startswith((_PICTURES[".png"], _PICTURES[".jpg"])) or (
                    head.lstrip().startswith(b"<") and _PICTURES[".html"] in file.read()
                ):
                    yield name


def shows(path: Path) -> bool:
    """Whether a file is a picture or a page with pictures."""
    mark = _PICTURES.get(path.suffix.lower().replace(".jpeg", ".jpg"))
    if mark is None or not path.is_file():
        return False
    data = path.read_bytes()
    return mark in data if path.suffix == ".html" else data.startswith(mark)


def erase(stones: Sequence[Tombstone]) -> Erased:
    """Write the tombstones, then remove what they name, wherever it is.

    Raises:
        UnavailableError: MLflow or a remote does not answer; the same call goes on.
        CheckError: another run is working in this workspace.
    """
    with workspace.exclusive():
        written = {stone.sha256: _written(stone) for stone in stones}
        files = _erase_signed(stones, written)
        for root in [DATA, *(path for path in [state_dir() / CLONE / DATA] if path.is_dir())]:
            for index in sorted(root.glob(f"*/{INDEX}")):
                _leave_out(index.parent, stones)
        for name in sorted({stone.dataset for stone in stones}):
            if (DATA / f"{name}.dvc").is_file() and not workspace.imported(name):
                workspace.dvc_add(DATA / name)
        _drop_caches()
        gone = {md5 for stone in stones for md5 in stone.objects}
        stores = _stores()
        count = sum(store.remove(gone) for store in stores)
        files += sum(_remove(path) for path in list(_leftovers(stones, gone, stores)))
    return Erased(count, files, _notes(stones, gone))


def _drop_caches() -> None:
    """Remove what is computed or fetched again; where each ledger was last seen to end stays."""
    models = state_dir() / MODEL_CACHE
    for path in (*(state_dir() / CACHE).glob("*"), *models.glob("*")):
        if path.is_dir() and path != models:
            shutil.rmtree(path)


def _written(stone: Tombstone) -> Path:
    path = tombstones.place(stone.sha256)
    return path if path.is_file() else tombstones.write(stone)


def _erase_signed(stones: Sequence[Tombstone], written: Mapping[str, Path]) -> int:
    """Put the tombstones beside the versions that showed the photos; remove what showed them."""
    files: dict[str, set[str]] = defaultdict(set)
    beside: dict[str, set[Path]] = defaultdict(set)
    for stone in stones:
        for place in stone.files:
            model, version, path = place.split("/", 2)
            files[f"{model}/{version}"].add(path)
            beside[f"{model}/{version}"].add(written[stone.sha256])
    for name, paths in files.items():
        model, _, version = name.rpartition("/")
        store = Registry.open(model).store
        if store.holds(model, int(version)):
            store.erase(model, int(version), sorted(paths), sorted(beside[name]))
    return sum(map(len, files.values()))


def _leave_out(root: Path, stones: Sequence[Tombstone]) -> None:
    """Take the photos out of a data set: the index first, so that it never names a missing file."""
    dataset, wanted = load(root), {stone.sha256 for stone in stones}
    sizes = {stone.size for stone in stones}
    out = [
        image
        for image in dataset.images
        if (path := inside(root / PHOTOS, image["file_name"])).stat().st_size in sizes
        and sha256_file(path) in wanted
    ]
    if not out:
        return
    ids = {image["id"] for image in out}
    left = [image for image in dataset.images if image["id"] not in ids]
    boxes = [row for row in dataset.annotations if row["image_id"] not in ids]
    save(replace(dataset, images=left, annotations=boxes))
    masks = {image.get("mask") for image in out} - {None, *(image.get("mask") for image in left)}
    for place in (*(f"{PHOTOS}/{image['file_name']}" for image in out), *masks):
        inside(root, str(place)).unlink(missing_ok=True)
    names = {image["file_name"] for image in out}
    outcomes.leave_out(root / outcomes.TABLE, names)


def _leftovers(
    stones: Sequence[Tombstone], gone: set[str], stores: Sequence[Objects]
) -> Iterator[Path]:
    """Files of this project that are one of the erased objects, or were made from a photo."""
    skipped = {str(Path.cwd() / ".git"), str(Path.cwd() / ".venv"), *(s.name for s in stores)}
    for root in dict.fromkeys((Path.cwd(), state_dir(), Objects.of_cache().fetched)):
        for folder, inner, names in os.walk(root):
            inner[:] = [name for name in inner if os.path.join(folder, name) not in skipped]
            for path in (Path(folder, name) for name in names):
                if path.is_file() and not path.is_symlink() and _file_md5(path) in gone:
                    yield path
    for stone in stones:
        for name in stone.versions:
            yield from (state_dir() / DECISIONS).glob(f"{name.replace('/', '-v')}[.]*html")
    yield from _made_from(RUNS, {stone.sha256.encode() for stone in stones}, gone)


def _file_md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _made_from(root: Path, wanted: set[bytes], gone: set[str]) -> Iterator[Path]:
    """Below runs/: answers on a photo with what lies beside them, pages, and bundles of it."""
    for path in sorted(root.rglob("*")):
        if path.suffix == ".json" and any(sha in path.read_bytes() for sha in wanted):
            yield from path.parent.glob(f"{path.stem}.*")
        elif path.suffix == ".html":
            yield from [path] if shows(path) else []
        elif path.suffix == ".tar":
            yield from [path] if gone & _members(path) else []


def _members(archive: Path) -> set[str]:
    """MD5 of the objects in a bundle."""
    with suppress(tarfile.TarError, OSError), tarfile.open(archive) as opened:
        return {"".join(Path(name).parts[-2:]) for name in opened.getnames()}
    return set()


def _remove(path: Path) -> bool:
    there = path.is_file()
    path.unlink(missing_ok=True)
    return there


def _notes(stones: Sequence[Tombstone], gone: set[str]) -> list[str]:
    """What a person has to know, or to do."""
    found = [
        f"they are still at {url}: its owner has to delete them there with every version and take "
        f"them out of {INDEX}; then `dvc update {DATA / name}.dvc`"
        for name in sorted({stone.dataset for stone in stones})
        if (url := workspace.imported(name))
    ]
    unknown = {name for stone in stones for name, use in stone.versions.items() if use == _UNKNOWN}
    if unknown:
        found.append(
            f"it is unknown whether {', '.join(sorted(unknown))} used them: see `iml audit`"
        )
    held = workspace.in_history(f"/{md5[:2]}/{md5[2:]}" for md5 in sorted(gone))
    if held:
        found.append(f"git's history still has {held}: rewrite it, e.g. with git filter-repo")
    return found
