"""How `iml score` grows with the photos, from a real S3 server process: time and memory.

With RAY_ADDRESS it measures that cluster: start it with one core and with two
(`ray start --head --num-cpus N`) to compare.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import psutil
from PIL import Image

from components.core.files import read_json, sha256_file
from components.serving.sources import open_source
from components.serving.table import INDEX, TABLE

_IML = "from flows.cli.main import main; main()"
_BUCKET = "bench"
_KILLS = 3
_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def bench_scoring(student: Path, photos: int, folder: Path) -> dict[str, Any]:
    """Score a tenth, a third and all of so many small photos; then all again, killed three times.

    Args:
        student: folder with `student.onnx` and `student.json`.
        photos: JPEGs of 96x80, a hundred different ones, to put into a server of this machine
            (into that of AWS_ENDPOINT_URL where it is set, as a cluster needs it).
        folder: an empty folder for the results.

    Returns:
        By number of photos `seconds` (all processes' start included), `megabytes` (the most that
        all processes held) and `listing_seconds`; the log-log `slope` of time and memory; whether
        the killed run ended with the `same_bytes`.
    """
    sizes = sorted({max(100, photos // 10), max(100, photos // 3), photos})
    found: dict[str, Any] = {}
    with _server():
        for size in sizes:
            _fill(size)
            start = time.perf_counter()
            listed = sum(1 for _ in open_source(f"s3://{_BUCKET}/{size}", folder).items())
            listing = time.perf_counter() - start
            seconds, megabytes = _run(student, size, folder / str(size))
            row = {"seconds": seconds, "megabytes": megabytes, "listing_seconds": listing}
            found[f"{listed} photos"] = row
        killed = folder / "killed"
        for number in range(1, _KILLS + 1):
            _run(student, photos, killed, kill_at=number * photos // (_KILLS + 1))
        _run(student, photos, killed)
    rows = list(found.values())
    found["slope"] = {
        what: float(np.polyfit(np.log(sizes), np.log([row[what] for row in rows]), 1)[0])
        for what in ("seconds", "megabytes")
        if len(sizes) > 1
    }
    found["killed"] = {
        "same_bytes": _hashes(killed) == _hashes(folder / str(photos)),
        "rows": read_json(killed / TABLE / INDEX)["rows"],
    }
    return found


def _hashes(out: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in (out / TABLE).iterdir()}


@contextmanager
def _server() -> Iterator[None]:
    """Moto's S3 server, unless the environment names another; the environment names it then."""
    if "AWS_ENDPOINT_URL" in os.environ:
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    silent = subprocess.DEVNULL
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    os.environ |= {**_SETTINGS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with subprocess.Popen(command, stdout=silent, stderr=silent) as process:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.2)
            yield
        finally:
            process.kill()
            del os.environ["AWS_ENDPOINT_URL"]


def _fill(count: int) -> None:
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=_BUCKET)
    random = np.random.default_rng(0)
    files = []
    for _ in range(min(count, 100)):
        small = random.integers(0, 255, (10, 12, 3), dtype=np.uint8)
        file = BytesIO()
        Image.fromarray(small).resize((96, 80)).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    for number in range(count):
        client.put_object(
            Bucket=_BUCKET, Key=f"{count}/{number:08}.jpg", Body=files[number % len(files)]
        )


def _run(student: Path, size: int, out: Path, kill_at: int = 0) -> tuple[float, float]:
    """Seconds, and the most megabytes of all its processes, until the end or `kill -9`."""
    command = ["score", f"s3://{_BUCKET}/{size}", "--model", str(student), "--out", str(out)]
    start, most = time.perf_counter(), 0.0
    process = psutil.Popen(
        [sys.executable, "-c", _IML, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        most = max(most, _megabytes(process))
        done = sum(1 for _ in (out / TABLE).glob("[0-9]*")) if kill_at else 0
        if kill_at and done and _rows(out) >= kill_at:
            process.kill()
        time.sleep(0.2)
    if not kill_at and process.returncode:
        raise RuntimeError(f"iml score ended with {process.returncode}")
    return time.perf_counter() - start, most


def _rows(out: Path) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in (out / TABLE).glob("[0-9]*"))


def _megabytes(process: psutil.Process) -> float:
    total = 0
    with suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total / 1e6


_LISTED = """
import sys, time, resource
from pathlib import Path
from components.serving.sources import open_source
from components.serving.table import Table
source, out = sys.argv[1], Path(sys.argv[2])
start, plans = time.perf_counter(), Table(out).plans(open_source(source, out).items())
count = sum(len(plan.left) for plan in plans)
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(count, time.perf_counter() - start, most)
"""


def bench_listing(keys: int, folder: Path) -> dict[str, Any]:
    """List a hundredth, a tenth and all of so many keys, which a server makes up as it is asked.

    Returns by number of keys: the seconds, and the most megabytes that the lister held.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _MadeUp)
    Thread(target=server.serve_forever, daemon=True).start()
    settings = {**_SETTINGS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    found = {}
    for size in (keys // 100, keys // 10, keys):
        command = [sys.executable, "-c", _LISTED, f"s3://made-up/{size}", str(folder / "listed")]
        done = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        count, seconds, megabytes = done.stdout.split()
        found[f"{count} keys"] = {"seconds": float(seconds), "megabytes": float(megabytes)}
    server.shutdown()
    return found


class _MadeUp(BaseHTTPRequestHandler):
    """Answers ListObjectsV2 with as many keys as the prefix says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """One page of the list."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        size, start = int(asked["prefix"].strip("/")), int(asked.get("continuation-token", 0))
        end = min(size, start + 1000)
        rows = "".join(
            f"<Contents><Key>{size}/{number:012}.jpg</Key><ETag>&quot;{number:032x}&quot;</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>1</Size></Contents>"
            for number in range(start, end)
        )
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < size else ""
        cut = str(end < size).lower()
        body = f"<ListBucketResult><IsTruncated>{cut}</IsTruncated>{more}{rows}</ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
