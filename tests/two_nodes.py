"""A Ray cluster of two nodes on this machine, every port of it on 127.0.0.1: `python -m tests.two_nodes CPUS`.

Prints its address, the second node's id and the seconds to be up as one line of JSON. A line `kill` on standard input
kills the second node without a word to the others; the end of the input ends the cluster. A process of its own, so that Ray
changes nothing in whoever starts it and everything is gone with it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import time

LOCAL = "127.0.0.1"


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return probe.getsockname()[1]


def main() -> None:
    """See the module."""
    folder = tempfile.mkdtemp(prefix="fer-ray-")  # short: sockets lie in it
    os.environ.update(
        RAY_TMPDIR=folder,
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # keeps Ray from taking the machine's own address in place of 127.0.0.1
        RAY_DASHBOARD_STARTUP_TIMEOUT_S="120",
    )
    cpus = int(sys.argv[1])
    try:
        from ray.cluster_utils import Cluster

        began = time.monotonic()
        node = {"num_cpus": cpus, "node_ip_address": LOCAL, "object_store_memory": 80 * 2**20}
        ports = {"dashboard_port": free_port(), "dashboard_agent_listen_port": free_port()}
        cluster = Cluster(
            initialize_head=True, head_node_args={**node, **ports, "include_dashboard": True, "dashboard_host": LOCAL}
        )
        second = cluster.add_node(**node)
        up = {"address": f"http://{cluster.webui_url}", "second": second.node_id, "seconds": time.monotonic() - began}
        print(json.dumps(up), flush=True)
        for line in sys.stdin:
            if line.strip() == "kill":
                cluster.remove_node(second, allow_graceful=False)
                print("killed", flush=True)
        cluster.shutdown()
    finally:
        for _ in range(50):  # Ray's last processes still write while they end
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.exists(folder):
                break
            time.sleep(0.1)


if __name__ == "__main__":
    main()
