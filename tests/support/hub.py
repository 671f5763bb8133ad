"""A stand-in for the Hugging Face hub on loopback: the few answers that its library asks for one data set."""

import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path

_COMMIT = "0" * 40


@contextmanager
def serving(folder):
    """The address of a hub whose data set `owner/name` is a folder, and the paths that it was asked for."""
    asked = []

    class Handler(_Handler):
        root, seen = Path(folder), asked

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    root: Path
    seen: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.seen.append(path)
        if "/tree/" in path and (place := self.root / path.partition("/tree/")[2].partition("/")[2]).is_dir():
            self._json([self._entry(found) for found in sorted(place.iterdir())])
        elif "/resolve/" in path and (file := self.root / path.partition("/resolve/")[2].partition("/")[2]).is_file():
            self._send(200, file.read_bytes())
        elif path.startswith("/api/datasets/owner/name") and "/tree/" not in path:
            self._json({"id": "owner/name", "sha": _COMMIT, "tags": [], "siblings": []})
        else:
            self._send(404, b"", "EntryNotFound")

    do_HEAD = do_GET

    def _entry(self, path):
        kind = {"type": "file", "size": path.stat().st_size} if path.is_file() else {"type": "directory", "size": 0}
        return {**kind, "path": str(path.relative_to(self.root)), "oid": _COMMIT}

    def _json(self, content):
        self._send(200, json.dumps(content).encode())

    def _send(self, status, body, error=""):
        self.send_response(status)
        tag = f'"{hashlib.sha1(body).hexdigest()}"'
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": _COMMIT, "ETag": tag}.items():
            self.send_header(name, str(value))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
