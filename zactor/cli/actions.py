"""`zactor kill` and `zactor stop`: ending actors, nodes and clusters.

Does not signal processes itself, except those of clusters that no longer answer.
"""

from __future__ import annotations

import click

from zactor.cli import reads, session
from zactor.cli.main import EXIT_NO_CLUSTER, Failure


@click.command()
@click.argument("actor")
@click.option(
    "--restart/--no-restart",
    default=False,
    help="Let its restart policy start it again. By default it stays dead.",
)
@click.option("--namespace", default=None, help="Where the name is to be looked for.")
@session.address_option
def kill(actor: str, restart: bool, namespace: str | None, address: str | None) -> None:
    """End ACTOR now: an id, the beginning of one, a name, or the pid of its process.

    Calls that are queued or running fail, and say whether they ran.
    """
    filters = [["state", "!=", "DEAD"]]
    if namespace is not None:
        filters.append(["ray_namespace", "=", namespace])
    with session.attached(address) as cluster:
        row = reads.find(cluster.query("actors", filters=filters), actor, "actors")
        cluster.kill(bytes.fromhex(row["actor_id"]), no_restart=not restart)
    click.echo(f"killed {row['class_name'] or 'actor'} {row['actor_id']}")


@click.command()
@click.option("--node", default=None, metavar="ID", help="Only this node of the cluster.")
@click.option("--force", is_flag=True, help="Do not wait for what runs.")
@session.address_option
def stop(node: str | None, force: bool, address: str | None) -> None:
    """Stop a node, or the cluster at ADDRESS, or all daemons of this user on this machine."""
    if node is not None:
        with session.attached(address) as cluster:
            row = reads.find(
                cluster.query("nodes", filters=[["state", "=", "ALIVE"]]), node, "nodes"
            )
            cluster.stop_node(row, graceful=not force)
        click.echo(f"stopping node {row['node_id']}")
        return
    stopped = session.stop_local(force=force, address=address)
    if address is not None and not stopped:
        raise Failure(f"no cluster runs at {address}", EXIT_NO_CLUSTER)
    for text in stopped:
        click.echo(f"stopped {text}")
    if not stopped:
        click.echo("nothing to stop")
