"""`iml serve` for real: its answers, its limits, and what it survives."""

from __future__ import annotations

import base64
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from served import Served, serving

from components.core.files import read_json
from components.core.metrics import THRESHOLD
from components.evaluate.pictures import encoded, marked
from components.serving import batch
from components.serving.drift import COLUMNS
from components.serving.http import metrics
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor

HEAVY = {"torch", "timm", "mlflow", "prefect", "dvc", "great_expectations", "pandas", "pyarrow",
         "scipy"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def server(student_folder: Path, folder: Path) -> Iterator[Served]:
    limits = ("--max-mb", "1", "--max-megapixels", "1", "--queue", "4")
    with serving(student_folder, folder, *limits, PYTHONPROFILEIMPORTTIME="1") as served:
        yield served


def noise(seed: int, height: int = 90, width: int = 130) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def jpeg(photo: np.ndarray, quality: int = 90) -> bytes:
    return encoded(photo, quality)


def post(server: Served, body: bytes, kind: str = "image/jpeg", **more: Any) -> httpx.Response:
    headers = {"Content-Type": kind}
    return httpx.post(
        f"{server.address}/predict", content=body, headers=headers, timeout=60, **more
    )


def test_answers_are_those_of_iml_predict(
    server: Served, student_folder: Path, tmp_path: Path
) -> None:
    predictor = Predictor(student_folder)
    student = Student(student_folder, str(student_folder), None)
    origin = Origin.of(student, predictor.weights_sha256)
    for seed, size in enumerate([(90, 130), (64, 64), (200, 71)]):
        path = tmp_path / f"p{seed}.jpg"
        path.write_bytes(jpeg(noise(seed, *size)))
        batch.predict_files(predictor, batch.find([path], tmp_path), tmp_path, origin)
        expected = read_json(tmp_path / f"p{seed}.json")
        answer = post(server, path.read_bytes(), params={"include": ["mask", "overlay"]}).json()
        for name in ("photo", "made_at", "report"):
            expected.pop(name)
        assert {name: answer[name] for name in expected} == expected
        mask = np.asarray(Image.open(BytesIO(base64.b64decode(answer["mask"]))))
        assert (mask == np.asarray(Image.open(tmp_path / f"p{seed}.mask.png"))).all()
        photo = np.asarray(Image.open(path))
        (found,) = predictor.predict([photo])
        drawn = encoded(marked(photo, found.probability, 1600), 90)
        assert base64.b64decode(answer["overlay"]) == drawn
        assert answer["manipulated"] is None  # the small student has no threshold


def test_a_photo_may_come_in_three_ways(server: Served) -> None:
    data = jpeg(noise(7))
    text = base64.b64encode(data).decode()
    answers = [
        post(server, data),
        post(server, data, "application/octet-stream"),
        post(server, json.dumps({"photo": text}).encode(), "application/json"),
        httpx.post(f"{server.address}/predict", files={"photo": ("a\0/../b.jpg", data)}),
    ]
    bodies = [answer.json() for answer in answers]
    for body in bodies:
        body.pop("made_at")
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg(noise(0, 40, 50)), "too small (50x40)"),
        (jpeg(noise(0), 5), "recompressed too strongly (JPEG quality about 5)"),
        (jpeg(np.full((90, 90, 3), 7, np.uint8)), "featureless (all pixels are equal)"),
    ],
)
def test_it_abstains_as_scoring_does(server: Served, data: bytes, reason: str) -> None:
    kind = f'iml_abstentions_total{{reason="{reason.partition(" (")[0]}"}}'
    before = server.metric(kind)
    answer = post(server, data, params={"include": "mask"}).json()
    assert answer["unsuitable"] == reason
    assert (answer["score"], answer["area"], answer["manipulated"]) == (None, None, None)
    assert answer["mask"] is None
    assert server.metric(kind) == before + 1


def test_health_names_the_model(server: Served, student_folder: Path) -> None:
    answer = httpx.get(f"{server.address}/health")
    found = answer.json()
    assert (answer.status_code, found["status"], found["problem"]) == (200, "ok", None)
    assert found["model"] == str(student_folder)
    assert len(found["weights_sha256"]) == 64
    assert "T" in found["since"]


def test_metrics_count_what_drift_compares(server: Served) -> None:
    assert set(metrics.COLUMNS) == set(COLUMNS)
    before = {name: server.metric(f"iml_photo_{name}_sum") for name in COLUMNS}
    total = server.metric('iml_seconds_count{part="total"}')
    answer = post(server, jpeg(noise(3, 70, 300))).json()
    for name in COLUMNS:
        grown = server.metric(f"iml_photo_{name}_sum") - before[name]
        assert grown == pytest.approx(answer[name], abs=1e-5)
    assert server.metric('iml_seconds_count{part="total"}') == total + 1
    for part in ("queue", "decode", "predict", "encode"):
        assert server.metric(f'iml_seconds_count{{part="{part}"}}') >= 1
        assert server.metric(f'iml_seconds_sum{{part="{part}"}}') >= 0


def test_its_reference_loads_nothing_from_elsewhere(server: Served) -> None:
    answer = httpx.get(f"{server.address}/docs")
    assert answer.status_code == 200
    for name in ("multipart/form-data", "image_threshold", "include", "/metrics", "429"):
        assert name in answer.text
    assert "http://" not in answer.text.replace("http://HOST", "")
    assert "https://" not in answer.text
    described = httpx.get(f"{server.address}/openapi.json").json()
    assert "Answer" in described["components"]["schemas"]


def _bomb() -> bytes:
    """A PNG of 100 megapixels in 100 kB."""
    buffer = BytesIO()
    Image.fromarray(np.zeros((10_000, 10_000), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _wrong() -> dict[str, tuple[bytes, str]]:
    """Requests that cannot be answered: body and content type."""
    whole, form = jpeg(noise(1)), "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n'
    file = b'; filename="a.jpg"'
    size = whole.index(b"\xff\xc0") + 5  # of the frame's height and width
    return {
        "nothing": (b"", "image/jpeg"),
        "text": (b"hello", "image/jpeg"),
        "cut": (whole[:-400], "image/jpeg"),
        "header only": (whole[:200], "image/jpeg"),
        "huge by its header": (
            whole[:size] + b"\xff\xff\xff\xff" + whole[size + 4 :], "image/jpeg"
        ),
        "a bomb": (_bomb(), "image/png"),
        "too many bytes": (b"\xff\xd8" + bytes(1_100_000), "image/jpeg"),
        "another type": (whole, "text/html"),
        "a form of the other kind": (b"photo=x", "application/x-www-form-urlencoded"),
        "no boundary": (whole, "multipart/form-data"),
        "another boundary": (b"--y\r\n\r\n", form),
        "no part": (b"--x--\r\n", form),
        "half a form": (part % (b"photo", file) + whole[:99], form),
        "a field": (part % (b"photo", b"") + b"text\r\n--x--\r\n", form),
        "another field": (part % (b"picture", file) + whole + b"\r\n--x--\r\n", form),
        "two files": (
            (part % (b"photo", file) + whole + b"\r\n") * 2 + b"--x--\r\n", form
        ),
        "many fields": (
            b"".join(part % (b"f%d" % n, b"") + b"1\r\n" for n in range(99)) + b"--x--\r\n", form
        ),
        "a long part header": (part % (b"photo" * 5000, file) + b"\r\n--x--\r\n", form),
        "an empty file": (part % (b"photo", file) + b"\r\n--x--\r\n", form),
        "half JSON": (b'{"photo": "', "application/json"),
        "no JSON": (b"\xff\xfe\0", "application/json"),
        "a number": (b'{"photo": NaN}', "application/json"),
        "a list": (b"[1]", "application/json"),
        "null": (b"null", "application/json"),
        "another key": (b'{"image": "x"}', "application/json"),
        "no base64": (b'{"photo": "?!"}', "application/json"),
        "half base64": (b'{"photo": "QUJ"}', "application/json"),
        "letters of another alphabet": ('{"photo": "äöü"}'.encode(), "application/json"),
        "base64 of text": (b'{"photo": "QUJD"}', "application/json"),
        "deep JSON": (b'{"photo":' * 50_000, "application/json"),
        "deep lists": (b"[" * 500_000, "application/json"),
    }  # fmt: skip


WRONG = _wrong()


def refused(answer: httpx.Response) -> bool:
    """Whether an answer is 4xx and one line."""
    text = answer.json()["detail"]
    assert isinstance(text, str)
    assert text == " ".join(text.split())
    assert len(text) < 400
    return 400 <= answer.status_code < 500


@pytest.mark.parametrize("what", WRONG)
def test_wrong_requests_get_one_line(server: Served, what: str) -> None:
    body, kind = WRONG[what]
    before = server.metric('iml_responses_total{status="200"}')
    answer = post(server, body, kind)
    assert refused(answer), answer.text
    assert server.metric('iml_responses_total{status="200"}') == before + 1  # of the metrics
    assert server.metric(f'iml_responses_total{{status="{answer.status_code}"}}') >= 1


def test_a_wrong_picture_is_refused(server: Served) -> None:
    answer = post(server, jpeg(noise(1)), params={"include": "everything"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422, "query.include.0: Input should be 'mask' or 'overlay'"
    )  # fmt: skip


def raw(server: Served, data: bytes) -> bytes:
    """The beginning of what the server sends to these bytes; nothing where it hangs up."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        try:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            return line.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            return b""


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 100\r\n\r\n\xff\xd8",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc",
        HEAD + b"X-Filler: " + b"a" * 200_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n",
        HEAD.replace(b"localhost", b"evil.example") + b"Content-Length: 0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"\0\xff\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ],
    ids=["short body", "negative", "endless", "two lengths", "chunks", "long header",
         "many headers", "host", "no host", "long path", "no text", "tls"],
)  # fmt: skip
def test_broken_http_is_refused(server: Served, request_: bytes) -> None:
    found = raw(server, request_)
    assert found == b"" or found.split()[1].startswith(b"4"), found
    assert post(server, jpeg(noise(1))).status_code == 200
    assert "Traceback" not in server.log.read_text()


def begun(server: Served, body: bytes) -> tuple[socket.socket, Callable[[], bytes]]:
    """A request whose body is half sent, and what sends the rest and gives the answer."""
    host, port = server.address.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)), timeout=30)
    half = len(body) // 2
    line.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:half])

    def finish() -> bytes:
        line.sendall(body[half:])
        found = b""
        while not found.endswith(b"}"):
            part = line.recv(65536)
            if not part:
                break
            found += part
        line.close()
        return found

    return line, finish


def until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("up", ["../" * 9, "%2e%2e/" * 9, "..%2f" * 9, "%252e%252e/" * 9, "/"])
def test_no_path_leads_to_a_file(server: Served, up: str) -> None:
    for place in ("", "static/", "docs/"):
        line = f"GET /{place}{up}etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert raw(server, line.encode()).startswith(b"HTTP/1.1 404")


def test_more_requests_than_wait_are_told_to_come_back(server: Served) -> None:
    body = jpeg(noise(5))
    requests = [begun(server, body) for _ in range(4)]
    until(lambda: server.metric("iml_waiting") == 4)
    answer = post(server, body)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert refused(answer)
    assert httpx.get(f"{server.address}/health").status_code == 200
    for _, finish in requests:
        assert finish().split()[1] == b"200"
    until(lambda: server.metric("iml_waiting") == 0)
    assert post(server, body).status_code == 200


def test_who_went_away_is_not_answered(server: Served) -> None:
    gone = 'iml_responses_total{status="499"}'
    before = server.metric(gone)
    for _ in range(3):
        line, _ = begun(server, jpeg(noise(5)))
        line.close()
    until(lambda: server.metric(gone) == before + 3)
    assert server.metric("iml_waiting") == 0
    assert post(server, jpeg(noise(1))).status_code == 200


def test_the_work_for_who_went_away_is_dropped(student_folder: Path, tmp_path: Path) -> None:
    large = encoded(np.zeros((8000, 8000), np.uint8), 90)  # takes long to decode
    with serving(student_folder, tmp_path) as served:
        for _ in range(3):
            line, _ = begun(served, large)
            line.sendall(large[len(large) // 2 :])
            line.close()
        until(lambda: served.metric('iml_responses_total{status="499"}') == 3)
        assert post(served, jpeg(noise(1))).status_code == 200
        assert served.metric('iml_seconds_count{part="total"}') == 1
        assert served.metric("iml_waiting") == 0


def test_it_imports_nothing_heavy_and_logs_no_requests(server: Served) -> None:
    lines = server.log.read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if "import time:" in line}
    assert {"fastapi", "onnxruntime"} <= imported
    assert not HEAVY & imported
    assert not [line for line in lines if "import time:" not in line]


def test_answers_under_way_are_finished_before_it_ends(
    student_folder: Path, tmp_path: Path
) -> None:
    with serving(student_folder, tmp_path) as served:
        _, finish = begun(served, jpeg(noise(5)))
        until(lambda: served.metric("iml_waiting") == 1)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert finish().split()[1] == b"200"
        assert served.process.wait(20) in (0, -signal.SIGTERM)


def test_it_is_killed_under_load_and_started_again(student_folder: Path, tmp_path: Path) -> None:
    data = jpeg(noise(2))
    with serving(student_folder, tmp_path) as served:
        found: list[int] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                try:
                    found.append(post(served, data).status_code)
                except httpx.HTTPError:
                    return

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        until(lambda: len(found) > 20)
        served.process.kill()
        served.process.wait()
        stop.set()
        for client in clients:
            client.join()
    assert set(found) <= {200, 429}
    port = served.address.rpartition(":")[2]
    with serving(student_folder, tmp_path, "--port", port) as again:
        assert again.address == served.address
        assert post(again, data).status_code == 200


def test_addresses_other_than_this_machine_are_warned_about(
    student_folder: Path, tmp_path: Path
) -> None:
    with serving(
        student_folder, tmp_path, "--host", "0.0.0.0", "--allow-host", "desk.example"
    ) as served:
        port = served.address.rpartition(":")[2]
        there = f"http://127.0.0.1:{port}/health"
        statuses = {
            name: httpx.get(there, headers={"Host": name}).status_code
            for name in ("desk.example", f"Desk.Example:{port}", f"10.1.2.3:{port}", "[fe80::1]:80",
                         f"localhost:{port}", "evil.example", "desk.example.evil.example")
        }  # fmt: skip
        assert list(statuses.values()) == [200] * 5 + [400] * 2
        until(lambda: served.log.read_text() != "")
        warning = "whoever reaches this address may ask; nobody is asked who they are"
        assert served.log.read_text() == f"warning: {warning}\n"


def hostile(random: Random) -> tuple[bytes, str] | bytes:
    """A request that cannot be answered: body and content type, or all of its bytes."""
    whole = jpeg(noise(random.randrange(9)), random.randrange(40, 100))
    garbage = random.randbytes(random.randrange(1, 3000))
    size = random.randrange(10, len(whole) - 200)
    name = bytes(random.choice(b'\0"\r;=%/.a\xff') for _ in range(random.randrange(1, 300)))
    part = (
        b'--x\r\nContent-Disposition: form-data; name="photo"; filename="%b"\r\n\r\n%b\r\n--x--\r\n'
    )
    form = "multipart/form-data; boundary=x"
    text = base64.b64encode(garbage).decode()
    return random.choice(
        [
            (whole[:size], "image/jpeg"),
            (whole[:size], "application/octet-stream"),
            (garbage, random.choice(["image/png", "image/x", "application/octet-stream"])),
            (whole[: size // 9] + garbage, form),
            (part % (name, garbage), form),
            (part % (b"a.jpg", whole[:size]), form),
            ((part % (name, whole))[: random.randrange(90)], form),
            (whole, random.choice(["text/plain", "video/mp4", "a" * 9000, "application/xml"])),
            (json.dumps({"photo": text}).encode(), "application/json"),
            (json.dumps({"photo": text}).encode()[:-3], "application/json"),
            (json.dumps({"photo": [text]}).encode(), "application/json"),
            (b'{"photo": Infinity, "photo": -NaN}', "application/json"),
            (b"[" * random.randrange(99_999), "application/json"),
            (b'{"photo":' * random.randrange(99_999), "application/json"),
            (garbage, "application/json"),
            WRONG["a bomb"],
            WRONG["huge by its header"],
            WRONG["too many bytes"],
            HEAD + b"Content-Length: %d\r\n\r\n" % (len(whole) + 99) + whole,
            HEAD + b"Content-Length: 12\r\n\r\n" + whole,
            HEAD + b"Content-Length: %d\r\n\r\n" % 10 ** random.randrange(8, 20) + whole,
            HEAD + b"X: " + garbage * 60 + b"\r\n\r\n" + whole,
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + garbage,
            garbage,
        ]
    )


def test_hostile_uploads_are_refused_and_memory_stays(
    server: Served, campaigns: bool, record_property: Callable[[str, object], None]
) -> None:
    random, memory = Random(5), []
    for number in range(500 if campaigns else 40):
        request = hostile(random)
        if isinstance(request, bytes):
            found = raw(server, request)
            assert found == b"" or found.split()[1].startswith(b"4"), (request[:200], found)
        else:
            answer = post(server, *request)
            assert refused(answer), (request[0][:200], request[1], answer.text)
        if number % 20 == 19:
            memory.append(server.metric("process_resident_memory_bytes") / 1e6)
    assert post(server, jpeg(noise(1))).status_code == 200
    assert memory[-1] - memory[len(memory) // 2 - 1] < 30
    record_property("hostile uploads refused", number + 1)
    record_property("MB of memory at the end, first", f"{memory[-1]:.0f}, {memory[0]:.0f}")


def test_threshold_is_the_one_that_predict_names(server: Served) -> None:
    assert post(server, jpeg(noise(1))).json()["threshold"] == THRESHOLD
