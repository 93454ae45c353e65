"""Where a replica of Ray Serve listens for other deployments: at the address of its machine in the cluster."""

from __future__ import annotations

from typing import Any

import ray


def listen_in_the_cluster_alone() -> None:
    """Have this process, a replica that is being made, open Ray Serve's own port at no other address of its machine.

    Ray Serve opens it on every address once a replica is made, for calls between deployments by gRPC, which come to
    the node's address; no setting changes that. Where a Ray opens it otherwise, nothing is done.
    """
    # Loaded already: it is what made this replica.
    from ray.serve._private import replica

    of_ray: Any = replica
    opens = getattr(of_ray, "add_port_to_grpc_server", None)
    if opens is None:
        return
    host = ray.util.get_node_ip_address()
    own = f"[{host}]" if ":" in host else host
    of_ray.add_port_to_grpc_server = lambda server, address: opens(server, address.replace("[::]", own))
