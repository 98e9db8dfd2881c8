# SPDX-License-Identifier: Apache-2.0
"""Asks for health and for the list of services, with the gRPC library that everyone uses, and nothing of ours."""

import os
import sys

import grpc

address, name = sys.argv[1:3]
credentials = grpc.ssl_channel_credentials(
    os.environ["CA"].encode(), os.environ["KEY"].encode(), os.environ["CERTIFICATE"].encode()
)
options = [("grpc.ssl_target_name_override", name)]
with grpc.secure_channel(address, credentials, options) as channel:
    # HealthCheckRequest {}; HealthCheckResponse { status: SERVING }
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    print({b"\x08\x01": "SERVING"}.get(check(b"", timeout=30), "NOT SERVING"))
    # ServerReflectionRequest { list_services: "" }
    info = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    for answer in info(iter([b"\x3a\x00"]), timeout=30):
        print(answer.decode("utf-8", "replace"))
