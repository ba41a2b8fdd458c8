# SPDX-License-Identifier: Apache-2.0
"""What goes wrong at a gRPC server that shares no code with skytls, and how examples/agent comes through it.

The agent is given numbered lines all the time. grpcio servers, each a process of its own, are killed and
started again, stopped as by a debugger, take one call at a time, send their clients away after a second,
refuse calls for lack of room or for a wrong token. Every line must arrive, in a stated time, and where
nothing may be sent twice, once. Prints one JSON list of [what, ok, fact] on stdout.

`serve` is the server: it prints what it has taken before it answers, and does what its stdin says.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent import futures

import grpc
from skywalking.protocol.logging.Logging_pb2 import LogData

from server import read

TOKEN = "faults-t0ken"
RECOVERY, FAILOVER, GENTLE = 2, 1, 11
PATIENCE, NOTICE = 2, 2  # grpc_upstream_timeout where a backend hangs, and how much later that is noticed


# ---- the server -------------------------------------------------------------------------------------


class Handler(grpc.GenericRpcHandler):
    def __init__(self):
        self.lock = threading.Lock()
        self.order, self.open = "ok", 0

    def service(self, details):
        token = dict(details.invocation_metadata).get("authentication")
        logs = details.method.endswith("LogReportService/collect")
        return grpc.stream_stream_rpc_method_handler(
            lambda messages, context: self.answer(token, logs, messages, context)
        )

    def say(self, *what):
        with self.lock:
            print(*what, flush=True)

    def answer(self, token, logs, messages, context):
        with self.lock:
            self.open += 1
            order, is_open = self.order, self.open
        context.add_callback(self.ended)
        self.say("call", context.peer(), is_open)
        if order == "exhausted":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Watermark exceeded")
        if order == "other-token" or token != TOKEN:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "")
        for data in messages:
            if logs:
                self.say("line", LogData.FromString(data).body.text.text)
        yield b""  # an empty Commands

    def ended(self):
        with self.lock:
            self.open -= 1


def serve(options):
    handler = Handler()
    handler.order = options.order
    settings = [("grpc.so_reuseport", 0)]
    if options.streams:
        settings.append(("grpc.max_concurrent_streams", options.streams))
    if options.age_ms:
        settings += [("grpc.max_connection_age_ms", options.age_ms), ("grpc.max_connection_age_grace_ms", 10000)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=settings)
    server.add_generic_rpc_handlers([handler])
    credentials = grpc.ssl_server_credentials(
        [(read(f"{options.certs}/server.pem"), read(f"{options.certs}/server.crt"))],
        root_certificates=read(f"{options.certs}/ca.crt"), require_client_auth=True,
    )
    port = server.add_secure_port(f"127.0.0.1:{options.port}", credentials)
    server.start()
    handler.say("port", port)
    for line in sys.stdin:
        handler.order = line.strip()
    server.stop(grace=5).wait()


# ---- what watches it --------------------------------------------------------------------------------


class Seen:
    """What has been taken, by all servers of a case, also by those that were killed meanwhile."""

    def __init__(self):
        self.changed = threading.Condition()
        self.lines, self.peers, self.calls, self.most = Counter(), set(), 0, 0

    def read(self, stream):
        for text in stream:
            kind, *rest = text.split()
            with self.changed:
                if kind == "line":
                    self.lines[int(rest[0])] += 1
                else:
                    self.calls += 1
                    self.peers.add(rest[0])
                    self.most = max(self.most, int(rest[1]))
                self.changed.notify_all()

    def fresh(self, limit):
        """Waits for a line that nobody has taken before; how long that took, or None."""
        begun = time.monotonic()
        with self.changed:
            before = len(self.lines)
            arrived = self.changed.wait_for(lambda: len(self.lines) > before, limit)
        return time.monotonic() - begun if arrived else None


class Server:
    def __init__(self, certs, seen, port=0, **options):
        self.certs, self.seen, self.options, self.port = certs, seen, options, port
        self.start()

    def start(self):
        """Returns once it listens."""
        command = [sys.executable, __file__, "serve", "--certs", self.certs, "--port", str(self.port)]
        command += [text for name, value in self.options.items() for text in (f"--{name}", str(value))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.reader = threading.Thread(target=self.seen.read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def order(self, what):
        print(what, file=self.process.stdin, flush=True)

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()
        self.reader.join()


class Agent:
    """examples/agent, fed with a numbered line every few milliseconds."""

    def __init__(self, program, certs, servers, **more):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SW_")}
        environment.update(
            SW_AGENT_NAME="faults", SW_AGENT_AUTHENTICATION=TOKEN,
            SW_AGENT_COLLECTOR_BACKEND_SERVICES=",".join(f"127.0.0.1:{server.port}" for server in servers),
            SW_AGENT_SSL_TRUSTED_CA_PATH=f"{certs}/ca.crt",
            SW_AGENT_SSL_CERT_CHAIN_PATH=f"{certs}/client.crt", SW_AGENT_SSL_KEY_PATH=f"{certs}/client.pem",
            SW_BUFFER_CHANNEL_SIZE="10", SW_BUFFER_BUFFER_SIZE="10000", **more,
        )
        self.process = subprocess.Popen(
            [program], env=environment, cwd=certs, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.count, self.stopped = 0, threading.Event()
        self.feeder = threading.Thread(target=self.feed, daemon=True)
        self.feeder.start()

    def feed(self):
        while not self.stopped.wait(0.005):
            print(self.count, file=self.process.stdin, flush=True)
            self.count += 1

    def finish(self):
        """Everything is delivered, or its exit code says so."""
        self.stopped.set()
        self.feeder.join()
        self.process.stdin.close()
        return self.process.wait(timeout=40)


# ---- the cases --------------------------------------------------------------------------------------


class Case:
    def __init__(self, options):
        self.agent_program, self.certs = os.path.abspath(options.agent), os.path.abspath(options.certs)
        self.seen, self.results = Seen(), []

    def server(self, **options):
        return Server(self.certs, self.seen, **options)

    def agent(self, *servers, **more):
        agent = Agent(self.agent_program, self.certs, servers, **more)
        self.check("it connects", self.seen.fresh(10) is not None)
        return agent

    def check(self, what, ok, fact=""):
        self.results.append([f"faults: {self.name}: {what}", bool(ok), str(fact)])

    def within(self, what, taken, limit):
        self.check(what, taken is not None and taken < limit, "never" if taken is None else f"{taken:.2f} s")

    def settle(self, agent, *servers, once=False):
        code = agent.finish()
        for server in servers:
            server.stop()
        lines = self.seen.lines
        lost = [number for number in range(agent.count) if not lines[number]]
        twice = sum(1 for times in lines.values() if times > 1)
        ok = code == 0 and not lost and not (once and twice)
        self.check("every line arrived" + (", once" if once else ""), ok,
                   f"{agent.count} lines, {len(lost)} lost, {twice} more than once, exit {code}")
        return self.results


class Killed(Case):
    name = "killed and started again"

    def run(self):
        server = self.server()
        agent = self.agent(server)
        times = []
        for outage in (0, 0.5, 1, 2, 4):
            self.seen.fresh(10)
            server.kill()
            time.sleep(outage)
            server.start()
            times.append(self.seen.fresh(10))
        self.within(f"{len(times)} times, lines again within {RECOVERY} s", max(t or 99 for t in times), RECOVERY)
        return self.settle(agent, server)


class Stopped(Case):
    name = "stopped, as if it hung"

    def run(self):
        servers = [self.server(), self.server()]
        agent = self.agent(*servers, SW_AGENT_COLLECTOR_GRPC_UPSTREAM_TIMEOUT=str(PATIENCE))
        # Whichever is in use: with the other one stopped lines keep coming.
        idle, busy = servers
        idle.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        if self.seen.fresh(0.5) is None:
            idle, busy = busy, idle
        else:
            idle.process.send_signal(signal.SIGCONT)
            busy.process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
        self.within("at the other one in time", self.seen.fresh(30), PATIENCE + NOTICE + FAILOVER)
        return self.settle(agent, *servers)


class OneAtATime(Case):
    name = "one call at a time"

    def run(self):
        server = self.server(streams=1)
        agent = self.agent(server, SW_AGENT_COLLECTOR_HEARTBEAT_PERIOD="1")
        time.sleep(5)
        self.check("never more", self.seen.most == 1, f"{self.seen.most} at most in {self.seen.calls} calls")
        return self.settle(agent, server, once=True)


class SentAway(Case):
    name = "sent away after a second"

    def run(self):
        server = self.server(**{"age-ms": 1000})
        agent = self.agent(server)
        time.sleep(8)
        self.check("by GOAWAY, again and again", len(self.seen.peers) >= 4, f"{len(self.seen.peers)} connections")
        return self.settle(agent, server, once=True)


class Refused(Case):
    """Refuses every call for a while: the connection stays, and it is asked gently."""

    def refuse(self, order):
        server = self.server()
        agent = self.agent(server)
        server.order(order)
        time.sleep(1.5)  # streams that are open end with OK
        begun = self.seen.calls
        time.sleep(3)
        calls = self.seen.calls - begun
        self.check("it is not hammered on", calls < 15, f"{calls} calls in 3 s")
        server.order("ok")
        self.within("lines again in time", self.seen.fresh(30), GENTLE)
        self.check("over the same connection", len(self.seen.peers) == 1, f"{len(self.seen.peers)} connections")
        return self.settle(agent, server)


class Exhausted(Refused):
    name = "without room (RESOURCE_EXHAUSTED)"

    def run(self):
        return self.refuse("exhausted")


class WrongToken(Refused):
    name = "with another token (PERMISSION_DENIED)"

    def run(self):
        return self.refuse("other-token")


def run(options):
    cases = [case(options) for case in (Killed, Stopped, OneAtATime, SentAway, Exhausted, WrongToken)]
    # Two at a time, for two cores.
    with futures.ThreadPoolExecutor(max_workers=2) as pool:
        results = [pool.submit(case.run) for case in cases]
        print(json.dumps([result for case in results for result in case.result()]))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    server, runner = commands.add_parser("serve"), commands.add_parser("run")
    for command in (server, runner):
        command.add_argument("--certs", required=True, help="folder with ca.crt, server.* and client.*")
    server.add_argument("--port", type=int, default=0)
    server.add_argument("--streams", type=int, default=0)
    server.add_argument("--age-ms", type=int, default=0)
    server.add_argument("--order", default="ok")
    runner.add_argument("--agent", required=True, help="the program examples/agent")
    options = parser.parse_args()
    {"serve": serve, "run": run}[options.command](options)


if __name__ == "__main__":
    main()
