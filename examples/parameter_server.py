# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "zactor"]
# ///
"""A parameter server: workers learn together through one actor that holds the weights.

Each worker has its own part of the data, asks for the weights, computes a gradient and sends it
back. Which worker comes first does not matter: `wait` serves whoever is ready.

Expected output:

    workers: 3, updates: 600
    learned y = 2 x1 - 3 x2 + 0.5 x3
"""

import numpy as np

import zactor

TRUTH = np.array([2.0, -3.0, 0.5])


@zactor.remote
class ParameterServer:
    def __init__(self, size: int) -> None:
        self.weights = np.zeros(size)
        self.updates = 0

    def apply(self, gradient: np.ndarray) -> np.ndarray:
        self.weights = self.weights - 0.1 * gradient
        self.updates += 1
        return self.weights

    def read(self) -> tuple[np.ndarray, int]:
        return self.weights, self.updates


@zactor.remote
class Worker:
    def __init__(self, server: zactor.actor.ActorHandle, seed: int) -> None:
        self.server = server  # a handle goes anywhere a value goes
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(500, TRUTH.size))
        self.y = self.x @ TRUTH

    def step(self) -> None:
        weights, _ = zactor.get(self.server.read.remote())
        error = self.x @ weights - self.y
        gradient = 2 * self.x.T @ error / len(error)
        zactor.get(self.server.apply.remote(gradient))


def main() -> None:
    zactor.init(num_cpus=4)

    server = ParameterServer.remote(TRUTH.size)
    workers = [Worker.remote(server, seed) for seed in range(3)]
    busy = {worker.step.remote(): worker for worker in workers}
    started = len(busy)
    while busy:
        (ready,), _ = zactor.wait(list(busy), num_returns=1)
        zactor.get(ready)
        worker = busy.pop(ready)
        if started < 600:
            busy[worker.step.remote()] = worker
            started += 1

    weights, updates = zactor.get(server.read.remote())
    print(f"workers: {len(workers)}, updates: {updates}")
    print("learned y = {:.0f} x1 - {:.0f} x2 + {:.1f} x3".format(*np.abs(weights)))

    zactor.shutdown()


if __name__ == "__main__":
    main()
