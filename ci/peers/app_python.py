# SPDX-License-Identifier: Apache-2.0
"""A small web application under the real Python agent: started as `sw-python run python app_python.py`.

A request for /work/N makes four spans: its entry, a local one, an exit towards /leaf/N of this same
application, and the entry of /leaf/N in a segment of its own that refers to the first. It also logs one line.
The application keeps its own count of them and prints it when it ends.
"""

import json
import logging
import signal
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from skywalking.decorators import trace

made = Counter()
made_lock = threading.Lock()


def count(kind):
    with made_lock:
        made[kind] += 1


@trace(op="compute")
def compute(number):
    count("Local")
    logging.getLogger("app").warning("handled %s", number)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        count("Entry")
        kind, _, number = self.path.lstrip("/").partition("/")
        if kind == "work":
            compute(number)
            count("Exit")
            urllib.request.urlopen(f"http://127.0.0.1:{self.server.server_port}/leaf/{number}", timeout=30).read()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def main():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    stop.wait()
    server.shutdown()
    print(json.dumps({"spans": made}), flush=True)


if __name__ == "__main__":
    main()
