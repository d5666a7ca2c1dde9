"""Object storage on loopback: a server of moto that speaks S3."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from urllib.request import Request, urlopen


BUCKET = "recordings"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Run a server with an empty bucket, `BUCKET`, and yield the options to reach it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it prints every request
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {
            "endpoint": f"http://{host}:{port}",
            "access_key_id": "key",
            "secret_access_key": "secret",
            "region": "us-east-1",
        }
        put(options, "", b"")
        yield options
    finally:
        server.stop()


def put(options: dict[str, str], name: str, content: bytes) -> None:
    """Write an object to `BUCKET`, or make the bucket if the name is empty."""
    address = f"{options['endpoint']}/{BUCKET}/{quote(name)}".rstrip("/")
    headers = {"Content-Type": "application/octet-stream"}
    with urlopen(Request(address, content, headers, method="PUT")):
        pass
