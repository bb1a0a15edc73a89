"""The least of a broker: lets nodes attach, and starts an actor when told to by a client."""

from __future__ import annotations

from typing import Any

from zactor.wire.messages import ActorReady, ActorUp, NodeUp, Query, Renew, StartActor


class FakeBroker:
    def __init__(self, loop: Any, post: Any, config: Any, info: dict[str, Any]) -> None:
        self.post = post
        self.info = info
        self.up: list[list[Any]] = []
        post.on(NodeUp, self._node_up)
        post.on(Renew, lambda peer, address, m: post.answer(address, m.request, 1))
        post.on(ActorUp, lambda peer, address, m: self.up.append([m.address, m.pid]))
        post.on(ActorReady, lambda peer, address, m: None)
        post.on(Query, self._query)

    def retire(self) -> None:
        pass

    def _node_up(self, peer: bytes, address: Any, message: NodeUp) -> None:
        answer = {"lease": 10.0, "renew": 2.0, "cluster": self.info}
        self.post.answer(address, message.request, answer)

    def _query(self, peer: bytes, address: Any, message: Query) -> None:
        if message.what == "start":
            spec = {"job": b"job1", "class_name": "Counter"}
            self.post.send(self.post.address, StartActor(message.args["actor"], 1, spec))
        self.post.answer(address, message.request, self.up)


def start(loop: Any, post: Any, config: Any, info: dict[str, Any]) -> FakeBroker:
    return FakeBroker(loop, post, config, info)
