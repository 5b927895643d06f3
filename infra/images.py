"""Builds the images of infra/Dockerfile with buildah, and beside each its bill of materials.

    python infra/images.py [serve] [pipeline] [servers] [--base IMAGE] [--out runs/images]

Writes OUT/IMAGE.cdx.json (CycloneDX: Debian's packages and Python's) and prints the sizes. pip's
settings and its certificate are lent to the build, and are in no layer. buildah's and podman's own
settings (BUILDAH_ISOLATION, CONTAINERS_CONF) apply.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

PROJECT = Path(__file__).parents[1]
IMAGES = ("serve", "pipeline", "servers")
# Run by the image's own Python: what is installed there, by Debian and by pip.
_INSTALLED = r"""
import glob, importlib.metadata as m, json, subprocess
form = "${Package}\t${Version}\t${Architecture}\n"
rows = subprocess.check_output(["dpkg-query", "--show", "--showformat", form], text=True)
places = glob.glob("/opt/*/lib/python3*/site-packages")
found = {(d.metadata["Name"], d.version) for d in m.distributions(path=places)}
print(json.dumps([[r.split("\t") for r in rows.splitlines()], sorted(found)]))
"""


def build(target: str, base: str | None) -> str:
    """Build one image; gives its name."""
    name = f"localhost/boxpromptiml-{target}"
    command = ["buildah", "bud", "--layers", "--format", "docker", "--target", target]
    command += ["--file", "infra/Dockerfile", "--tag", name]
    command += ["--build-arg", f"BASE={base}"] if base else []
    with tempfile.TemporaryDirectory() as folder:
        lent = _pip_settings(Path(folder) / "pip.conf")
        subprocess.run([*command, *lent, "."], cwd=PROJECT, check=True)
    return name


def _pip_settings(path: Path) -> list[str]:
    """Write pip's settings of this environment to a file; gives buildah's options that lend it."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    for row in said.stdout.splitlines():
        key, _, value = row.partition("=")
        settings.set("global", key.rpartition(".")[2], ast.literal_eval(value))
    with path.open("w") as file:
        settings.write(file)
    certificate = settings.get("global", "cert", fallback=None)
    lent = ["--volume", f"{certificate}:{certificate}:ro"] if certificate else []
    return ["--secret", f"id=pip,src={path}", *lent]


def bill(image: str) -> str:
    """The image's bill of materials, CycloneDX as JSON."""
    command = ["podman", "run", "--rm", "--network", "none", "--read-only"]
    command += ["--entrypoint", "python3", image, "-c", _INSTALLED]
    debian, python = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    bom = Bom()
    bom.metadata.component = Component(name=image, type=ComponentType.CONTAINER, bom_ref=image)
    for name, version, architecture in debian:
        purl = PackageURL("deb", "debian", name, version, {"arch": architecture})
        bom.components.add(_component(name, version, purl))
    for name, version in python:
        bom.components.add(_component(name, version, PackageURL("pypi", None, name, version)))
    bom.register_dependency(bom.metadata.component, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _component(name: str, version: str, purl: PackageURL) -> Component:
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl))


def size(image: str) -> int:
    """Bytes of the image, its base included."""
    command = ["podman", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(IMAGES)}; all")
    parser.add_argument("--base", help="another base image; any Debian with python3 and venv")
    parser.add_argument("--out", type=Path, default=PROJECT / "runs/images")
    options = parser.parse_args()
    if unknown := set(options.images) - set(IMAGES):
        parser.error(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for target in options.images or IMAGES:
        image = build(target, options.base)
        path = options.out / f"boxpromptiml-{target}.cdx.json"
        path.write_text(bill(image), encoding="utf-8")
        print(f"{image}: {size(image) / 1e6:.0f} MB, {path}")


if __name__ == "__main__":
    main()
