"""How many photos a second `iml serve` answers under load, as a share of the predictor alone.

The load is wrk's (Debian's package `wrk`), one thread that takes little of the processor; it shares
the machine's cores with the server. The yardstick reads, decodes and predicts the same files one
after another in a process of its own.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.data import make_photos
from components.core.errors import InputError

_SERVE = "from flows.cli.main import main; main()"
_LOOP = """
import sys, time
from components.core.images import decode_photo, read_bytes
from components.serving.predictor import Predictor
predictor, seconds, paths = Predictor(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
def predict(path):
    predictor.predict([decode_photo(read_bytes(path), path)])
for path in paths[:5]:
    predict(path)
count, start, cpu = 0, time.perf_counter(), time.process_time()
while time.perf_counter() - start < seconds:
    predict(paths[count % len(paths)])
    count += 1
print(count / (time.perf_counter() - start), (time.process_time() - cpu) / count)
"""
_SCRIPT = """
local photos, place, workers = {}, 0, {}
for path in io.lines(os.getenv("PHOTOS")) do
  local file = io.open(path, "rb")
  photos[#photos + 1] = file:read("*a")
  file:close()
end
counts = {}
wrk.method = "POST"
wrk.headers["Content-Type"] = "image/jpeg"
function setup(worker) workers[#workers + 1] = worker end
function request()
  place = place % #photos + 1
  return wrk.format(nil, "/predict", nil, photos[place])
end
function response(status)
  local name = tostring(status)
  counts[name] = (counts[name] or 0) + 1
end
function done(summary, latency)
  local said = {}
  for status, count in pairs(workers[1]:get("counts")) do
    said[#said + 1] = string.format('"%s": %d', status, count)
  end
  local wrong = summary.errors
  io.write(string.format('{"statuses": {%s}, "seconds": %f, "lost": %d, "ms": {"p50": %f, "p95": %f, "p99": %f}}',
    table.concat(said, ", "), summary.duration / 1e6,
    wrong.connect + wrong.read + wrong.write + wrong.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""  # noqa: E501


def bench_serving(
    student: Path, clients: int, seconds: float, photos: int, folder: Path
) -> dict[str, Any]:
    """Load a server with half as many clients as it lets wait, between two halves of the yardstick.

    Args:
        student: folder with `student.onnx` and `student.json`.
        clients: connections, each with one request at a time.
        seconds: of the load, and of the yardstick in sum.
        photos: JPEGs of 384x256 to make.
        folder: an empty folder for them.

    Returns:
        `predictor_per_second`, `server_per_second` (of answers with status 200), their `ratio`, the
        processor time of a photo in both (`cpu_ms`, which other programs change little),
        `statuses`, `lost` requests, `ms` by percentile, `client_cpu` (cores that wrk took), and the
        server's `megabytes` before and after.
    """
    if shutil.which("wrk") is None:
        raise InputError("wrk is missing", hint="apt-get install wrk")
    files = [str(path) for path in make_photos(folder / "photos", photos)]
    loop = [sys.executable, "-c", _LOOP, str(student), str(seconds / 2), *files]

    def alone() -> tuple[float, float]:
        done = subprocess.run(loop, capture_output=True, check=True)
        rate, cpu = map(float, done.stdout.split())
        return rate, cpu

    # Room for those that the warm-up leaves unanswered when it ends: nobody is turned away.
    with _server(student, 2 * clients) as (process, address):
        before = alone()
        _load(address, clients, 3, files, folder)  # warms the server up
        megabytes, cpu = [process.memory_info().rss / 1e6], _cpu(process)
        found = _load(address, clients, seconds, files, folder)
        megabytes.append(process.memory_info().rss / 1e6)
        cpu = _cpu(process) - cpu
    (bare, bare_cpu), answered = np.mean([before, alone()], axis=0), found["statuses"].get("200", 0)
    rate = answered / found.pop("seconds")
    return {
        "clients": clients,
        "predictor_per_second": float(bare),
        "server_per_second": rate,
        "ratio": rate / float(bare),
        "predictor_cpu_ms": float(bare_cpu) * 1000,
        "server_cpu_ms": cpu / answered * 1000,
        **found,
        "megabytes": megabytes,
    }


def _cpu(process: psutil.Process) -> float:
    """Seconds of processor time that a process has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _server(student: Path, queue: int) -> Iterator[tuple[psutil.Process, str]]:
    command = ["serve", "--model", str(student), "--port", "0", "--queue", str(queue)]
    process = psutil.Popen([sys.executable, "-c", _SERVE, *command], stdout=subprocess.PIPE)
    try:
        yield process, process.stdout.readline().split()[0].decode()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _load(
    address: str, clients: int, seconds: float, files: list[str], folder: Path
) -> dict[str, Any]:
    """One run of wrk."""
    script, listed = folder / "post.lua", folder / "photos.txt"
    script.write_text(_SCRIPT)
    listed.write_text("\n".join(files) + "\n")
    sizes = ["-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "60s"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["wrk", *sizes, "-s", str(script), address],
        env={"PHOTOS": str(listed)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return {**found, "client_cpu": cpu / seconds}
