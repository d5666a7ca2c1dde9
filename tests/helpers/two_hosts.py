"""Two "hosts" on this machine: network namespaces with an address each, connected by a cable."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


ADDRESSES = ("10.213.7.1", "10.213.7.2")


def why_impossible() -> str | None:
    """Why this machine cannot have such hosts; None if it can."""
    if shutil.which("ip") is None:
        return "the program ip is not installed"
    name = f"atri-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"`ip netns add` is not permitted here: {made.stderr.strip()}"
    entered = subprocess.run(["ip", "netns", "exec", name, "true"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None if entered.returncode == 0 else f"`ip netns exec` is not permitted here: {entered.stderr.strip()}"


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Yield the names of the namespaces; they are deleted in the end."""
    hosts = [f"atri-{os.getpid()}-{number}" for number in range(2)]
    ends = [f"atri{os.getpid() % 100000}{letter}" for letter in "ab"]
    with ExitStack() as made:
        for host in hosts:
            run("ip", "netns", "add", host)
            made.callback(run, "ip", "netns", "delete", host)
        run(
            "ip", "link", "add", ends[0], "netns", hosts[0], "type", "veth", "peer", "name", ends[1], "netns", hosts[1]
        )
        for host, end, address in zip(hosts, ends, ADDRESSES, strict=True):
            run("ip", "-n", host, "address", "add", f"{address}/24", "dev", end)
            run("ip", "-n", host, "link", "set", end, "up")
            run("ip", "-n", host, "link", "set", "lo", "up")
        yield hosts


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def start(host: str, command: Sequence[str], log: Path, **environment: str) -> subprocess.Popen:
    """Start a command on a host, with the Python of the tests."""
    found = Path(sys.executable).parent
    variables = os.environ | {"PATH": f"{found}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"} | environment
    with open(log, "w") as file:
        return subprocess.Popen(
            ["ip", "netns", "exec", host, *command], stdout=file, stderr=file, env=variables, start_new_session=True
        )


def children(pid: int) -> list[int]:
    """Processes that a process started and that run still."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
