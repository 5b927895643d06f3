"""A model hub on loopback: the two addresses of Hugging Face's that fetching a model asks for.

Its own library reads it as well (tested), so it answers as the real one does.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "lab/tiny"


@dataclass
class Hub:
    """One model at one commit; `cut` and `spoil` name a file that is cut off or spoilt once.

    Large files are kept elsewhere, as on the real hub: they are answered with a redirection.
    """

    folder: Path
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})
    cut: str = ""
    spoil: str = ""
    token: str = ""
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    base: str = ""
    store: str = ""

    def rows(self) -> list[dict[str, Any]]:
        return [self._row(path) for path in sorted(self.folder.iterdir())]

    def _row(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        row: dict[str, Any] = {"rfilename": path.name, "size": len(data)}
        if path.suffix != ".json":
            sha256 = hashlib.sha256(data).hexdigest()
            row["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
        row["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return row

    def tree(self) -> list[dict[str, Any]]:
        """As another of the real hub's addresses lists the files; only its own library asks."""
        found = []
        for row in self.rows():
            entry = {"type": "file", "path": row["rfilename"], "size": row["size"]}
            if lfs := row.get("lfs"):
                entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 134}
            found.append({**entry, "oid": row["blobId"]})
        return found

    def listing(self) -> dict[str, Any]:
        head = {"_id": "0", "id": NAME, "modelId": NAME, "sha": COMMIT, "private": False}
        return {**head, "cardData": self.card, "siblings": self.rows()}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub and, on another port, where it keeps large files."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) for _ in range(2)]
    hub.base, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path, _, _ = self.path.partition("?")
            port = self.server.server_port
            given = self.headers.get("Authorization")
            hub.asked.append((f"{port}", path, self.headers.get("Range"), given))
            at_hub = hub.base.endswith(f":{port}")
            if at_hub and hub.token and given != f"Bearer {hub.token}":
                return self._answer(401, b"Unauthorized")
            if path in (f"/api/models/{NAME}/revision/{COMMIT}", f"/api/models/{NAME}"):
                return self._answer(200, json.dumps(hub.listing()).encode())
            if path == f"/api/models/{NAME}/tree/{COMMIT}":
                return self._answer(200, json.dumps(hub.tree()).encode())
            file = hub.folder / path.rpartition("/")[2]
            if path != f"/{NAME}/resolve/{COMMIT}/{file.name}" or not file.is_file():
                return self._answer(404, b"Not found")
            return self._file(file, at_hub)

        def _file(self, file: Path, at_hub: bool) -> None:
            data, large = file.read_bytes(), file.suffix != ".json"
            (row,) = (row for row in hub.rows() if row["rfilename"] == file.name)
            headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if large and at_hub:
                headers |= {"Location": hub.store + self.path, "X-Linked-Size": str(len(data))}
                headers["X-Linked-ETag"] = f'"{row["lfs"]["sha256"]}"'
                return self._answer(302, b"", **headers)
            headers["ETag"] = f'"{row["blobId"]}"'
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            body = data[start:]
            if hub.spoil == file.name:
                hub.spoil, body = "", b"X" + body[1:]
            self._answer(206 if start else 200, body, **headers)

        def _answer(self, status: int, body: bytes, **headers: str) -> None:
            cut = hub.cut and self.path.partition("?")[0].endswith(f"/{hub.cut}") and status == 200
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if cut:
                hub.cut, body = "", body[: len(body) // 2]
                self.close_connection = True
            self.wfile.write(body)

    return Handler
