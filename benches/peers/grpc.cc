// SPDX-License-Identifier: Apache-2.0
//
// gRPC C++ as cpp2sky and others use it: segments as objects, 10,000 per stream, synchronous writes.
//
//   grpc PORT CA SEGMENT COUNT WARM_UP hint|plain
//
// Prints what it took as the clients in Rust do.

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "language-agent/Tracing.grpc.pb.h"

namespace v3 = skywalking::v3;

static std::string read_file(const char *path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

static bool send(v3::TraceSegmentReportService::Stub &stub, const v3::SegmentObject &segment, uint64_t count,
                 const grpc::WriteOptions &options) {
    while (count > 0) {
        const uint64_t now = count < 10000 ? count : 10000;
        grpc::ClientContext context;
        v3::Commands commands;
        auto writer = stub.collect(&context, &commands);
        for (uint64_t i = 0; i < now; i++)
            if (!writer->Write(segment, options))
                break;
        writer->WritesDone();
        const grpc::Status status = writer->Finish();
        if (!status.ok()) {
            std::fprintf(stderr, "grpc: %s\n", status.error_message().c_str());
            return false;
        }
        count -= now;
    }
    return true;
}

static double us(const timeval &time) { return time.tv_sec * 1e6 + time.tv_usec; }

int main(int argc, char **argv) {
    if (argc != 7)
        return 64;
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = read_file(argv[2]);
    auto channel = grpc::CreateChannel(std::string("localhost:") + argv[1], grpc::SslCredentials(tls));
    auto stub = v3::TraceSegmentReportService::NewStub(channel);
    v3::SegmentObject segment;
    if (!segment.ParseFromString(read_file(argv[3])))
        return 1;
    const uint64_t count = std::stoull(argv[4]);
    grpc::WriteOptions options;
    if (std::string(argv[6]) == "hint")
        options.set_buffer_hint();

    if (!send(*stub, segment, std::stoull(argv[5]), options))
        return 1;
    rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const auto begun = std::chrono::steady_clock::now();
    if (!send(*stub, segment, count, options))
        return 1;
    const std::chrono::duration<double, std::micro> wall = std::chrono::steady_clock::now() - begun;
    getrusage(RUSAGE_SELF, &after);
    std::printf("{\"count\":%llu,\"cpu\":{\"user_us\":%.0f,\"system_us\":%.0f,\"waits\":%ld,\"peak_kib\":%ld},"
                "\"pacing_us\":0,\"late\":0,\"wall_us\":%.0f}\n",
                static_cast<unsigned long long>(count), us(after.ru_utime) - us(before.ru_utime),
                us(after.ru_stime) - us(before.ru_stime), after.ru_nvcsw - before.ru_nvcsw, after.ru_maxrss,
                wall.count());
    return 0;
}
