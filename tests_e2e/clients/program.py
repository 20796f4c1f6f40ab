#!/usr/bin/env python3
"""All that an image of the client suites holds: a model server, a training program and a processing program, by their contracts."""

import http.server
import json
import os
import pathlib
import sys
import time

ML = pathlib.Path("/opt/ml")


def train():
    """Count the rows of the channel ``train``; ``fail`` and ``seconds`` are hyperparameters."""
    asked = json.loads((ML / "input/config/hyperparameters.json").read_text())
    rows = sum(len(path.read_text().splitlines()) for path in sorted((ML / "input/data/train").iterdir()))
    print(f"rows={rows}; loss={1 / rows:.4f};", flush=True)
    time.sleep(float(asked.get("seconds", "0").strip('"')))
    if "fail" in asked:
        (ML / "output").mkdir(exist_ok=True)
        (ML / "output/failure").write_text(asked["fail"])
        sys.exit(3)
    (ML / "model/model.json").write_text(json.dumps({"rows": rows}))


def process():
    """Copy the input in capitals to the output."""
    time.sleep(float(os.environ.get("SECONDS", "0")))
    for path in sorted((ML / "processing/input").iterdir()):
        print(f"processing {path.name}", flush=True)
        (ML / "processing/output" / path.name).write_text(path.read_text().upper())


class Handler(http.server.BaseHTTPRequestHandler):
    """The container contract; an answer is the request in capitals."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status, body=b"{}", **headers):
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {"Content-Type": self.headers.get("Content-Type") or "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """Health."""
        self.answer(200 if self.path == "/ping" else 404)

    def do_DELETE(self):
        """An adapter goes."""
        self.answer(200)

    def do_POST(self):
        """An adapter comes, or an invocation."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/adapters":
            self.answer(200)
        elif body == b"fail":
            self.answer(500, b"as asked")
        else:
            adapter = self.headers.get("X-Amzn-SageMaker-Adapter-Identifier", "")
            echo = {"X_Amzn_SageMaker_Custom_Attributes": self.headers.get("X-Amzn-SageMaker-Custom-Attributes") or adapter or "none"}
            self.answer(200, body.upper(), **echo)

    def log_message(self, *_):
        """Say nothing."""


def serve():
    """Until the end."""
    http.server.ThreadingHTTPServer.daemon_threads = True
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    {"train": train, "process": process}.get(sys.argv[1] if len(sys.argv) > 1 else "serve", serve)()
