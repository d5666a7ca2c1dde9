"""Object storage on loopback: a server of moto that speaks S3."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
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
        with urlopen(Request(f"{options['endpoint']}/moto-api/reset", method="POST")):  # of another server before
            pass
        _client(options).create_bucket(Bucket=BUCKET)
        yield options
    finally:
        server.stop()


def put(options: dict[str, str], name: str, content: bytes) -> None:
    """Write an object to `BUCKET`."""
    _client(options).put_object(Bucket=BUCKET, Key=name, Body=content)


def remove_all(options: dict[str, str], prefix: str) -> None:
    """Remove the objects of `BUCKET` whose names begin with `prefix`."""
    client = _client(options)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for item in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=item["Key"])


@cache
def _session() -> Any:
    import boto3

    return boto3.Session()


def _client(options: dict[str, str]) -> Any:
    return _session().client(
        "s3",
        endpoint_url=options["endpoint"],
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
        region_name=options["region"],
    )
