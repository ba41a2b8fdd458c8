# SPDX-License-Identifier: Apache-2.0
"""The duties of an agent, as a gRPC server sees them that shares no code with skytls.

Starts a grpcio server that demands a client certificate and writes everything down, runs `examples/agent`
against it, gives it orders, breaks a call, and compares what came with what the Java agent documents: order,
periods, fields, headers, deadlines. Prints one JSON list of [what, ok, fact] on stdout.
"""

import argparse
import json
import os
import subprocess
import threading
import time
import uuid as uuids
from concurrent import futures

import grpc
from skywalking.protocol.common.Command_pb2 import Command, Commands
from skywalking.protocol.common.Common_pb2 import KeyStringValuePair

from server import known_methods, read

TOKEN, VERSION = "duties-t0ken", "1.2.3"
PERIOD, FACTOR = 1, 3  # heartbeats in seconds, and properties in heartbeats
CONFIGURATION_INTERVAL, PROFILE_INTERVAL = 2, 1
KEEP_ALIVE, PROPERTIES = "keepAlive", "reportInstanceProperties"
CONFIGURATION, TASKS, FINISH = "fetchConfigurations", "getProfileTaskCommands", "reportTaskFinish"


def command(name, **args):
    pairs = [("SerialNumber", str(uuids.uuid4())), *args.items()]
    return Command(command=name, args=[KeyStringValuePair(key=key, value=value) for key, value in pairs])


def orders():
    """Method -> what its next calls are answered with."""
    task = command(
        "ProfileTaskQuery", TaskId="task-1", EndpointName="GET:/", Duration="5", MinDurationThreshold="0",
        DumpPeriod="10", MaxSamplingCount="5", StartTime="1700000000001", CreateTime="1700000000000",
    )
    return {
        CONFIGURATION: [
            [command("ConfigurationDiscoveryCommand", UUID="u1", **{"shop.discount": "5"})],
            [command("ConfigurationDiscoveryCommand", UUID="u2", **{"shop.discount": "5", "other": "x"})],
            [command("ConfigurationDiscoveryCommand", UUID="u3")],
        ],
        TASKS: [[task], [task]],  # once more with the same serial number
    }


class Call:
    def __init__(self, path, metadata, deadline):
        self.at, self.path, self.name = time.monotonic(), path, path.rsplit("/", 1)[1]
        self.metadata, self.deadline = metadata, deadline
        self.messages, self.failed = [], False


class Backend(grpc.GenericRpcHandler):
    def __init__(self):
        self.changed = threading.Condition()
        self.methods, self.orders, self.calls = known_methods(), orders(), []
        self.broken = [PROPERTIES]  # each is refused once

    def service(self, details):
        if details.method not in self.methods:
            return None
        metadata = [(key, value) for key, value in details.invocation_metadata]
        return grpc.stream_stream_rpc_method_handler(
            lambda messages, context: self.answer(details.method, metadata, messages, context)
        )

    def answer(self, path, metadata, messages, context):
        call = Call(path, metadata, context.time_remaining())
        with self.changed:
            self.calls.append(call)
            call.failed = call.name in self.broken
            if call.failed:
                self.broken.remove(call.name)
        request, _ = self.methods[path]
        for data in messages:
            with self.changed:
                call.messages.append(request.FromString(data))
        with self.changed:
            pending = self.orders.get(call.name)
            commands = pending.pop(0) if pending and not call.failed else []
            self.changed.notify_all()
        if call.failed:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken to order")
        yield Commands(commands=commands).SerializeToString()

    def named(self, name):
        return [call for call in self.calls if call.name == name]

    def wait(self, condition, seconds):
        with self.changed:
            return self.changed.wait_for(condition, seconds)


def run(agent, port, certs):
    """Runs the agent until enough has been seen; gives its output, exit code and when it was started."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SW_")}
    environment.update(
        SW_AGENT_NAME="duties", SW_AGENT_NAMESPACE="ns", SW_AGENT_AUTHENTICATION=TOKEN,
        SW_INSTANCE_PROPERTIES_JSON='{"zone":"b"}',
        SW_AGENT_COLLECTOR_BACKEND_SERVICES=f"localhost:{port}",
        SW_AGENT_SSL_TRUSTED_CA_PATH=f"{certs}/ca.crt",
        SW_AGENT_SSL_CERT_CHAIN_PATH=f"{certs}/client.crt", SW_AGENT_SSL_KEY_PATH=f"{certs}/client.pem",
        SW_AGENT_COLLECTOR_HEARTBEAT_PERIOD=str(PERIOD),
        SW_AGENT_COLLECTOR_PROPERTIES_REPORT_PERIOD_FACTOR=str(FACTOR),
        SW_AGENT_COLLECTOR_GET_AGENT_DYNAMIC_CONFIG_INTERVAL=str(CONFIGURATION_INTERVAL),
        SW_AGENT_COLLECTOR_GET_PROFILE_TASK_INTERVAL=str(PROFILE_INTERVAL),
    )
    started = time.monotonic()
    process = subprocess.Popen(
        [agent], env=environment, cwd=certs, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    return process, started


def judge(backend, started, output, code):
    results = []

    def check(what, ok, fact=""):
        results.append([f"duties: {what}", bool(ok), str(fact)])

    calls = backend.calls
    check("the agent ended by itself with 0", code == 0, f"exit {code}")
    odd = {c.name for c in calls if [v for k, v in c.metadata if k == "authentication"] != [TOKEN]}
    check("the token on every call, once", not odd, sorted(odd) or f"{len(calls)} calls")
    odd = {c.name for c in calls if [v for k, v in c.metadata if k == "agent-version"] != [VERSION]}
    check("agent-version on every call, once", not odd, sorted(odd) or f"{len(calls)} calls")
    unary = [c for c in calls if not backend.methods[c.path][1]]
    odd = {c.name: c.deadline for c in unary if c.deadline is None or not 25 < c.deadline <= 30}
    check("a deadline of 30 s on every unary call", not odd, odd or f"{len(unary)} calls")

    beats = [c for c in calls if c.name in (KEEP_ALIVE, PROPERTIES)]
    broken, beats = beats[0], beats[1:]
    check("instance properties first, within a second", broken.name == PROPERTIES and broken.at - started < 1.5,
          f"{broken.at - started:.2f} s")
    check("repeated soon after a failure", broken.failed and beats[0].name == PROPERTIES
          and beats[0].at - broken.at < PERIOD, f"{beats[0].at - broken.at:.2f} s")
    wanted = [PROPERTIES if n % FACTOR == 0 else KEEP_ALIVE for n in range(len(beats))]
    check(f"properties in place of every {FACTOR}rd heartbeat", [c.name for c in beats] == wanted, f"{len(beats)} beats")
    gaps = [b.at - a.at for a, b in zip(beats[1:], beats[2:])]
    check(f"a heartbeat every {PERIOD} s", all(abs(gap - PERIOD) < 0.5 for gap in gaps),
          f"{min(gaps):.2f} to {max(gaps):.2f} s")

    report = beats[0].messages[0]
    keys = [pair.key for pair in report.properties]
    addresses = keys.count("ipv4")
    java = (["OS Name", "hostname"] + ["ipv4"] * addresses
            + ["Process No.", "language", "zone", "namespace", "cluster", "version", "Start Time"])
    check("the properties in the Java agent's order", keys == java and addresses <= 10, keys)
    values = {pair.key: pair.value for pair in report.properties}
    check("and their values", (values["language"], values["namespace"], values["cluster"], values["zone"],
          values["version"], values["OS Name"]) == ("rust", "ns", "", "b", VERSION, "Linux"), values)
    instances = {m.serviceInstance for c in beats for m in c.messages}
    services = {m.service for c in beats for m in c.messages}
    check("service with namespace and both bars", services == {"duties|ns|"}, services)
    instance = instances.pop()
    head, _, tail = instance.partition("@")
    first = next((pair.value for pair in report.properties if pair.key == "ipv4"), "no-hostname")
    check("one instance, 32 hex digits @ the first address", not instances and len(head) == 32 and tail == first, instance)

    events = [m for c in calls if c.path.endswith("EventService/collect") for m in c.messages]
    check("two events", [e.name for e in events] == ["Start", "Shutdown"], [e.name for e in events])
    for event, message in zip(events, ("Start Rust Application", "Shutting down Rust Application")):
        ok = (event.message == message and event.type == 0 and event.layer == "GENERAL" and len(event.uuid) == 36
              and event.source.service == "duties|ns|" and event.source.serviceInstance == instance
              and 0 < event.startTime <= event.endTime)
        check(f"the {event.name} event", ok, " ".join(str(event).split()))
    last = max((c for c in calls if c.messages), key=lambda c: c.at)
    check("the shutdown event is the last call", last.messages[-1] == events[-1], last.name)

    polls = backend.named(CONFIGURATION)
    first = polls[0].at - started
    check("configuration is asked for after one interval", CONFIGURATION_INTERVAL - 0.1 < first < 2 * CONFIGURATION_INTERVAL,
          f"{first:.2f} s")
    uuids_sent = [c.messages[0].uuid for c in polls]
    check("with the UUID of the last answer", uuids_sent[:4] == ["", "u1", "u2", "u3"], uuids_sent)
    told = [line for line in output if line.startswith("discount")]
    check("the watcher hears of changes only", told == ["discount: 5", "discount: none"], told)

    polls = backend.named(TASKS)
    check("profiling tasks are asked for at once", polls[0].at - started < 1.5, f"{polls[0].at - started:.2f} s")
    times = [c.messages[0].lastCommandTime for c in polls]
    check("with the time of the newest one", times[0] == 0 and set(times[1:]) == {1700000000000}, times[:4])
    told = [line for line in output if line.startswith("profile")]
    check("a task is handed over once", told == ["profile: GET:/ for 300s"], told)
    done = [c.messages[0] for c in backend.named(FINISH)]
    check("its end is reported", [(d.service, d.serviceInstance, d.taskId) for d in done]
          == [("duties|ns|", instance, "task-1")], done)
    logs = [m for c in calls if c.path.endswith("LogReportService/collect") for m in c.messages]
    check("log lines arrive under the agent's name", [m.body.text.text for m in logs] == ["one", "two"]
          and {(m.service, m.serviceInstance) for m in logs} == {("duties|ns|", instance)}, len(logs))
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certs", required=True, help="folder with ca.crt, server.* and client.*")
    parser.add_argument("--agent", required=True, help="the program examples/agent")
    options = parser.parse_args()
    certs = os.path.abspath(options.certs)
    backend = Backend()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([backend])
    credentials = grpc.ssl_server_credentials(
        [(read(f"{certs}/server.pem"), read(f"{certs}/server.crt"))],
        root_certificates=read(f"{certs}/ca.crt"), require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    process, started = run(os.path.abspath(options.agent), port, certs)

    def enough():
        return (len(backend.named(KEEP_ALIVE)) >= 5 and len(backend.named(CONFIGURATION)) >= 4
                and backend.named(FINISH))

    backend.wait(enough, 40)
    output, _ = process.communicate("one\ntwo\n", timeout=30)
    server.stop(grace=5).wait()
    print(json.dumps(judge(backend, started, output.splitlines(), process.returncode)))


if __name__ == "__main__":
    main()
