"""Content credentials of files that were really signed: valid, invalid, absent; no network."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import c2pa
import numpy as np
import pytest
from project import ROOT
from signed_photos import SIGNER, altered, builder, photo, signed

from components.serving import credentials
from components.serving.credentials import Action, Ingredient


def codes(found: credentials.Credentials) -> set[str]:
    return {check.code for check in found.failures}


def test_a_signed_photo_is_valid_and_its_signer_not_trusted() -> None:
    found = credentials.read(
        signed(photo(), builder("<b>x</b>\u202e", when="2026-01-02T03:04:05Z"))
    )
    assert (found.state, found.trusted, found.failures) == ("valid", False, [])
    assert found.generator == "Test camera 1.0"
    assert found.signer == f"{SIGNER}, Test desk"
    assert (found.algorithm, found.time, found.manifests) == ("Es256", "", 1)
    assert int(found.serial) > 0
    assert found.title == "<b>x</b>\\u202e"
    assert found.actions == [
        Action("c2pa.created", "2026-01-02T03:04:05Z", "", "digitalCapture", "")
    ]
    assert {"claimSignature.validated", "assertion.dataHash.match"} <= {
        c.code for c in found.passed
    }


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF"])
def test_other_formats(kind: str) -> None:
    data, mime = photo(kind=kind), f"image/{kind.lower()}"
    assert credentials.read(data).state == "absent"
    assert credentials.read(signed(data, mime=mime)).state == "valid"


def test_one_bit_of_the_pixels_makes_it_invalid() -> None:
    found = credentials.read(altered(signed(photo())))
    assert found.state == "invalid"
    assert codes(found) == {"assertion.dataHash.mismatch"}
    assert found.signer  # what it says is shown all the same


def test_a_manifest_moved_to_another_photo_is_invalid() -> None:
    own, other = photo(seed=1), photo(seed=2)
    data, start = signed(own), 20  # behind what both begin with
    moved = data[: start + len(data) - len(own)] + other[start:]
    assert credentials.read(moved).state == "invalid"


def test_absent_and_not_looked_for() -> None:
    assert credentials.read(photo()).state == "absent"
    assert credentials.read(photo(kind="BMP")).state == "unsupported"


def test_ingredients_and_their_own_credentials() -> None:
    for parent, problems in (
        (signed(photo(seed=3)), []),
        (altered(signed(photo(seed=3))), ["assertion.dataHash.mismatch"]),
    ):
        manifest = builder("edited")
        manifest.set_intent(c2pa.C2paBuilderIntent.EDIT)
        original = {"title": "original.jpg", "relationship": "parentOf"}
        manifest.add_ingredient(original, "image/jpeg", BytesIO(parent))
        found = credentials.read(signed(photo(), manifest))
        assert found.ingredients == [Ingredient("original.jpg", "parentOf", problems, True)]
        assert found.manifests == 2


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """An address on loopback, and the paths that were asked for there."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_a_manifest_elsewhere_is_named_and_not_fetched() -> None:
    with server() as (address, asked):
        manifest = builder()
        manifest.set_no_embed()
        manifest.set_remote_url(f"{address}/m.c2pa")
        data = signed(photo(), manifest)
        found = credentials.read(data)
        assert found.state == "remote"
        assert f"{address}/m.c2pa" in found.reason
        assert asked == []
        with pytest.raises(c2pa.C2paError):  # as the library does by default
            c2pa.Reader(BytesIO(data))
        assert asked == ["/m.c2pa"]


def test_damage_is_never_an_exception_nor_valid() -> None:
    data, random = signed(photo()), np.random.default_rng(0)
    manifest = data.index(b"jumb"), data.index(b"\xff\xdb")
    states = set()
    for number in range(150):
        bad = bytearray(data)
        for _ in range(random.integers(1, 20)):
            place = random.integers(*manifest) if number % 2 else random.integers(2, len(bad))
            bad[place] ^= 1 << random.integers(8)
        found = credentials.read(bytes(bad[: random.integers(10, len(bad))] if number % 5 else bad))
        states.add(found.state)
    assert {"invalid", "unreadable"} <= states
    assert "valid" not in states


def test_without_the_library_it_is_not_checked() -> None:
    code = (
        "import sys; sys.modules['c2pa'] = None\n"
        "from components.serving import credentials\n"
        "print(credentials.read(b''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "state='unchecked', reason='the package c2pa-python is not installed'" in done.stdout
