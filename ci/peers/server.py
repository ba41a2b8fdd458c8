# SPDX-License-Identifier: Apache-2.0
"""A backend that shares no code with skytls: grpcio, and so BoringSSL and gRPC's own HTTP/2.

It demands a client certificate, answers every SkyWalking method with an empty Commands, and keeps
books on what came. One JSON line on stdout says where it listens; GET on `report` gives the books
at any time; SIGTERM prints them as one more line and ends it.
"""

import argparse
import hashlib
import importlib
import json
import pkgutil
import signal
import ssl
import threading
from collections import Counter, defaultdict
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import skywalking.protocol
from google.protobuf import message_factory
from skywalking.protocol.language_agent.Tracing_pb2 import SpanType

# As OAP has it, so that nothing is refused here that a real backend would take.
MAX_MESSAGE = 50 * 1024 * 1024


def known_methods():
    """Path -> (request class, is a client stream), for all the protocol that ships with the Python agent."""
    methods = {}
    for module in pkgutil.walk_packages(skywalking.protocol.__path__, "skywalking.protocol."):
        if not module.name.endswith("_pb2"):
            continue
        for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                request = message_factory.GetMessageClass(method.input_type)
                methods[f"/{service.full_name}/{method.name}"] = (request, method.client_streaming)
    return methods


class Books:
    """What came, by service. Every field is guarded by the one lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = Counter()
        self.client_certificates = Counter()
        self.errors = []
        self.spans = Counter()  # (segment id, span id) -> times seen
        self.references = set()  # spans that other spans name as their parent
        self.segments = defaultdict(set)
        self.counts = defaultdict(Counter)  # service -> kind -> number
        self.operations = defaultdict(Counter)  # service -> "Entry /path" -> number
        self.log_lines = defaultdict(Counter)  # service -> text -> number
        self.metadata = defaultdict(lambda: defaultdict(Counter))  # service -> key -> value -> calls

    def segment(self, segment):
        counts = self.counts[segment.service]
        self.segments[segment.service].add(segment.traceSegmentId)
        for span in segment.spans:
            key = (segment.traceSegmentId, span.spanId)
            self.spans[key] += 1
            counts["spans"] += 1
            counts["duplicate_spans"] += self.spans[key] > 1
            self.operations[segment.service][f"{SpanType.Name(span.spanType)} {span.operationName}"] += 1
            self.references.update((ref.parentTraceSegmentId, ref.parentSpanId) for ref in span.refs)

    def message(self, method, message, sticky):
        """Books one message; returns the service it belongs to. `sticky` is the one its stream spoke of so far."""
        kind = type(message).__name__
        # Logs and meters may name their service on the first message of a stream only. As OAP does,
        # the first name wins over later ones, so a relay that mixes streams is found out here.
        service = getattr(message, "service", "")
        if kind in ("LogData", "MeterData"):
            service = sticky or service
            if not service:
                self.errors.append(f"{method}: a {kind} with no service in its stream")
        if kind == "SegmentObject":
            self.segment(message)
        elif kind == "SegmentCollection":
            for segment in message.segments:
                self.segment(segment)
                service = segment.service
        elif kind == "InstancePingPkg":
            self.counts[service]["heartbeats"] += 1
        elif kind == "InstanceProperties":
            self.counts[service]["properties"] += len(message.properties)
        elif kind == "LogData":
            self.counts[service]["logs"] += 1
            self.log_lines[service][message.body.text.text] += 1
        elif kind == "MeterData":
            self.counts[service]["meters"] += 1
        elif kind == "MeterDataCollection":
            for meter in message.meterData:
                service = service or meter.service
                self.counts[service]["meters"] += 1
        else:
            self.counts[service][kind] += 1
        return service

    def report(self):
        with self.lock:
            services = {
                service: {
                    "segments": len(self.segments[service]),
                    "counts": dict(self.counts[service]),
                    "operations": dict(self.operations[service]),
                    "log_lines": dict(self.log_lines[service]),
                    "metadata": {key: dict(values) for key, values in self.metadata[service].items()},
                }
                for service in set(self.counts) | set(self.metadata)
            }
            return json.dumps(
                {
                    "services": services,
                    "dangling_references": len(self.references - set(self.spans)),
                    "calls": dict(self.calls),
                    "client_certificates": dict(self.client_certificates),
                    "errors": self.errors,
                }
            )


class Backend(grpc.GenericRpcHandler):
    def __init__(self, books):
        self.books = books
        self.methods = known_methods()

    def service(self, details):
        path = details.method
        # What the agent's package does not know (eBPF, the v10 profilers) is answered and counted, not decoded.
        if path not in self.methods and not path.startswith("/skywalking."):
            return None  # UNIMPLEMENTED
        metadata = dict(details.invocation_metadata)
        # On the wire a unary call is a stream of one message, so this one shape serves every method.
        return grpc.stream_stream_rpc_method_handler(
            lambda messages, context: self.answer(path, metadata, messages, context)
        )

    def answer(self, path, metadata, messages, context):
        books = self.books
        request, is_stream = self.methods.get(path, (None, True))
        service, number = "", 0
        with books.lock:
            books.calls[path] += 1
            for certificate in context.auth_context().get("x509_pem_cert", [b"none"]):
                books.client_certificates[fingerprint(certificate)] += 1
        for number, data in enumerate(messages, 1):
            with books.lock:
                # A message counts when it comes, also if its call fails later: that is how OAP does it.
                if request is None:
                    books.counts[service][path] += 1
                    continue
                try:
                    service = books.message(path, request.FromString(data), service)
                except Exception as error:  # noqa: BLE001 - whatever it is, it belongs in the books
                    books.errors.append(f"{path}: {error!r}")
        with books.lock:
            for key in ("authentication", "agent-version"):
                books.metadata[service][key][metadata.get(key, "none")] += 1
            if not is_stream and number != 1:
                books.errors.append(f"{path}: {number} messages in a unary call")
        yield b""  # an empty Commands


def fingerprint(pem):
    if not pem.startswith(b"-----BEGIN"):
        return pem.decode()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


def serve_report(books):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = books.report().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certs", help="folder with ca.crt, server.crt and server.pem")
    parser.add_argument("--plaintext", action="store_true", help="for trying the agents without a relay")
    options = parser.parse_args()
    if bool(options.certs) == options.plaintext:
        parser.error("either --certs or --plaintext")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    books = Books()
    # A call holds its thread until it ends: enough of them for all that a relay may keep open at once.
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=64),
        options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0)],
    )
    server.add_generic_rpc_handlers([Backend(books)])
    if options.plaintext:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        credentials = grpc.ssl_server_credentials(
            [(read(f"{options.certs}/server.pem"), read(f"{options.certs}/server.crt"))],
            root_certificates=read(f"{options.certs}/ca.crt"),
            require_client_auth=True,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(json.dumps({"port": port, "report": serve_report(books)}), flush=True)
    stop.wait()
    server.stop(grace=5).wait()
    print(books.report(), flush=True)


if __name__ == "__main__":
    main()
