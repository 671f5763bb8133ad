"""A real S3 API on loopback, and a gate before it that counts requests and fails some of them."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}

# what to answer instead of passing a request (method, path) on: a status, "reset", "hang", "lost" (after it was
# done), or nothing
Rule = Callable[[str, str], int | str | None]

_ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>{}</Message></Error>'
_CODES = {503: "SlowDown", 500: "InternalError", 403: "AccessDenied"}


class Gate:
    """Passes requests on to `server`, `(host, port)`, unless its `rule` has another answer; keeps what was asked."""

    def __init__(self, server: tuple[str, int]):
        self.asked: list[tuple[str, str]] = []
        self.rule: Rule = lambda method, path: None
        self.conditional = True  # whether the server knows If-None-Match
        self.over = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _handler(self, server))
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed in the middle of a request is no error here."""


def _handler(gate: Gate, server: tuple[str, int]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            gate.asked.append((self.command, self.path))
            answer = gate.rule(self.command, self.path)
            if answer == "reset":
                self.close_connection = True
            elif answer == "hang":
                gate.over.wait(60)
                self.close_connection = True
            elif answer == "lost":
                self._passed_on(body)
                self.close_connection = True
            elif self.headers.get("If-None-Match") and not gate.conditional:
                self._send(501, {"Content-Type": "application/xml"}, _ERROR.format("NotImplemented", "no").encode())
            elif answer:
                code = _CODES[int(answer)]
                self._send(int(answer), {"Content-Type": "application/xml"}, _ERROR.format(code, code).encode())
            else:
                self._send(*self._passed_on(body))

        def _passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            with contextlib.closing(http.client.HTTPConnection(*server)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                reply = connection.getresponse()
                headers = {k: v for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
                return reply.status, headers, reply.read()

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, *args: object) -> None:
            pass

    return Handler
