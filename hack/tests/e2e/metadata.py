# SPDX-License-Identifier: Apache-2.0
"""The instance metadata service of Amazon EC2, as its documentation has it: version 2, sessions by PUT, nothing without one.

Usage: metadata.py FOLDER. One connection, on standard input and output, as QEMU starts it for each. The folder holds
`user-data`; the first request of all gets an error, as services that are only just starting give.
"""

import pathlib
import sys

FOLDER = pathlib.Path(sys.argv[1])
SESSION = "AQAEAHk2"
TEXTS = {
    "instance-id": "i-0123456789abcdef0",
    "placement/region": "eu-central-1",
    "placement/availability-zone": "eu-central-1a",
    "instance-type": "m7i.large",
}


def request():
    line = sys.stdin.buffer.readline().decode().split()
    headers = {}
    while (header := sys.stdin.buffer.readline().decode().strip()) != "":
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    return (line[0], line[1], headers) if len(line) == 3 else None


def answer(status, body=b""):
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    sys.stdout.buffer.write(head.encode() + body)
    sys.stdout.buffer.flush()


def serve(method, path, headers):
    started = FOLDER / "started"
    if not started.exists():
        started.touch()
        return answer("503 Service Unavailable")
    if (method, path) == ("PUT", "/latest/api/token"):
        seconds = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        good = seconds.isdigit() and 1 <= int(seconds) <= 21600 and "x-forwarded-for" not in headers
        return answer("200 OK", SESSION.encode()) if good else answer("400 Bad Request")
    if headers.get("x-aws-ec2-metadata-token") != SESSION:
        return answer("401 Unauthorized")
    if path == "/2019-10-01/user-data":
        return answer("200 OK", (FOLDER / "user-data").read_bytes())
    text = TEXTS.get(path.removeprefix("/2021-01-03/meta-data/"))
    return answer("200 OK", text.encode()) if text else answer("404 Not Found")


while (asked := request()) is not None:
    serve(*asked)
