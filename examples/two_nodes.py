# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""Two nodes: an actor where its resources are, and what happens when that place is lost.

`zactor.testing.Cluster` starts a broker and nodes on this one machine. On real machines the same
program runs against `zactor broker` and `zactor node --join FILE`, with `zactor.init(FILE)`.

Expected output:

    two nodes alive
    the actor that needs a camera runs on the edge node: True
    a value made on one node and read on another: 1000000
    the node was killed, and the call says so: ActorDiedError
    nodes alive: 1
"""

import zactor
from zactor.testing import Cluster


@zactor.remote(resources={"camera": 1})
class Camera:
    def node(self) -> str:
        return zactor.get_runtime_context().get_node_id()

    def photo(self) -> bytes:
        return bytes(1_000_000)


@zactor.remote
def size_of(photo: bytes) -> int:
    return len(photo)


def alive() -> list[dict]:
    return [node for node in zactor.nodes() if node["Alive"]]


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    edge = cluster.add_node(num_cpus=1, resources={"camera": 1})
    zactor.init(address=cluster.address)
    cluster.wait_for_nodes()
    print("two" if len(alive()) == 2 else len(alive()), "nodes alive")

    camera = Camera.remote()
    here = zactor.get_runtime_context().get_node_id()
    there = zactor.get(camera.node.remote())
    print("the actor that needs a camera runs on the edge node:", there != here)
    size = zactor.get(size_of.options(num_cpus=2).remote(camera.photo.remote()))
    print("a value made on one node and read on another:", size)

    cluster.remove_node(edge, allow_graceful=False)
    try:
        zactor.get(camera.photo.remote(), timeout=30)
    except zactor.exceptions.ActorError as error:
        print("the node was killed, and the call says so:", type(error).__name__)
    print("nodes alive:", len(alive()))

    zactor.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
