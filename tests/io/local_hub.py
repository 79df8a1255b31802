"""A small Hugging Face Hub on loopback: what the client needs to fetch and to publish, and faults on demand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PIECE = 1 << 16
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What goes wrong with the content of files: each kind as often as it says."""

    status: int = 0  # answered in place of everything
    cut_after: int = -1  # bytes of the whole file after which the connection drops
    times: int = 1_000_000
    flip: bool = False  # one byte differs
    short: int = 0  # bytes fewer than announced in the repository's listing, in a well-formed answer
    header: dict[str, str] = field(default_factory=dict)


class LocalHub:
    """Serves `files`, by `user/name/path`, and takes in commits; `requests` lists what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: set[str] = set()  # repositories, which may be empty
        self.private: set[str] = set()  # of these
        self.card_errors: list[str] = []  # what is wrong with the header of every README.md
        self.licence = "openrail++"
        self.detailed = True  # listings name sizes and checksums
        self.fault = Fault(times=0)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.objects: dict[str, bytes] = {}
        self.sent = 0  # bytes of files
        self.watch: Callable[[int], object] = lambda sent: None  # told after every piece
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def add_folder(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[path.relative_to(folder).as_posix()] = path.read_bytes()

    def downloads(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a killed client hangs up
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes | dict, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _record(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        return path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, fault = self._record(), self.hub.fault
        if fault.status and fault.times:
            fault.times -= 1
            return self._answer(fault.status, {"error": "out of order"}, fault.header)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/(.+))?", path):
            return self._info(match[1])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(f"{match[1]}/{match[3]}")
        return self._missing("RepoNotFound")

    def _missing(self, code: str) -> None:
        self._answer(404, {"error": code}, {"X-Error-Code": code})

    def _info(self, repo: str) -> None:
        files = {p.removeprefix(f"{repo}/"): d for p, d in self.hub.files.items() if p.startswith(f"{repo}/")}
        if not files and repo not in self.hub.created:
            return self._missing("RepoNotFound")
        siblings = [
            {
                "rfilename": path,
                "size": len(data),
                "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
                **({} if path.endswith(".json") else {"lfs": _lfs(data)}),
            }
            if self.hub.detailed
            else {"rfilename": path}
            for path, data in files.items()
        ]
        card = {"license": self.hub.licence}
        self._answer(
            200,
            {
                "id": repo,
                "modelId": repo,
                "private": repo in self.hub.private,
                "sha": COMMIT,
                "siblings": siblings,
                "cardData": card,
            },
        )

    def _file(self, name: str) -> None:
        data, fault = self.hub.files.get(name), self.hub.fault
        if data is None:
            return self._missing("EntryNotFound")
        checksum, whole = hashlib.sha256(data).hexdigest(), len(data)
        headers = {"ETag": f'"{checksum}"', "X-Linked-Etag": f'"{checksum}"', "X-Linked-Size": str(whole)}
        active = fault.times > 0
        if active and fault.flip:
            data = bytes([data[0] ^ 1]) + data[1:]
        if active and fault.short:
            data = data[: -fault.short]
        start, status = 0, 200
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, status = int(asked[1]), 206
            if start >= len(data):
                return self._answer(416, {}, {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(status)
        for key, value in {**headers, "X-Repo-Commit": COMMIT, "Content-Length": str(len(data) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        end = len(data)
        if active and fault.cut_after >= start:
            fault.times -= 1
            end = fault.cut_after
        for begin in range(start, end, _PIECE):
            piece = data[begin : min(begin + _PIECE, end)]
            self.hub.sent += len(piece)
            self.wfile.write(piece)
            self.hub.watch(self.hub.sent)
        if end < len(data):
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(1)
        return None

    def do_POST(self) -> None:
        path, body = self._record(), self._body()
        fault = self.hub.fault
        if fault.status and fault.times:
            fault.times -= 1
            return self._answer(fault.status, {"error": "out of order"}, fault.header)
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo not in self.hub.created and (asked.get("private") or asked.get("visibility") == "private"):
                self.hub.private.add(repo)
            self.hub.created.add(repo)
            return self._answer(200, {"url": f"{self.hub.url}/{repo}"})
        if path == "/api/validate-yaml":
            errors = [{"message": text} for text in self.hub.card_errors]
            return self._answer(400 if errors else 200, {"errors": errors, "warnings": []})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "regular" if f["path"].endswith(".md") else "lfs",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.url}/storage/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self._commit(match[1], [json.loads(line) for line in body.splitlines() if line])
        return self._missing("RepoNotFound")

    def _commit(self, repo: str, lines: list[dict]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[f"{repo}/{value['path']}"] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[f"{repo}/{value['path']}"] = self.hub.objects[value["oid"]]
        self._answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.hub.url}/{repo}/commit/{COMMIT}"})

    def do_PUT(self) -> None:
        path, body = self._record(), self._body()
        checksum = hashlib.sha256(body).hexdigest()
        if path != f"/storage/{checksum}":
            return self._answer(400, {"error": "wrong checksum"})
        self.hub.objects[checksum] = body
        return self._answer(200, b"")


def _lfs(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
