# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""A pool of actors: work is given to whoever is free.

Each actor pays for its preparation once and then serves many items; `ActorPool` keeps all of
them busy. `map` gives results in the order of the items, `map_unordered` as they are done.

Expected output:

    in order: ['ALPHA', 'BETA', 'GAMMA', 'DELTA', 'EPSILON', 'ZETA']
    as done, sorted: ['ALPHA', 'BETA', 'DELTA', 'EPSILON', 'GAMMA', 'ZETA']
    prepared 2 times for 12 items, each of 2 workers busy: True
"""

import zactor
from zactor.util import ActorPool

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]


@zactor.remote
class Shouter:
    def __init__(self) -> None:
        # Loading a model or a dictionary would go here.
        self.table = str.maketrans({chr(c): chr(c - 32) for c in range(97, 123)})
        self.served = 0

    def shout(self, word: str) -> str:
        self.served += 1
        return word.translate(self.table)

    def report(self) -> int:
        return self.served


def main() -> None:
    zactor.init(num_cpus=2)

    shouters = [Shouter.remote() for _ in range(2)]
    pool = ActorPool(shouters)
    print("in order:", list(pool.map(lambda actor, word: actor.shout.remote(word), WORDS)))
    done = pool.map_unordered(lambda actor, word: actor.shout.remote(word), WORDS)
    print("as done, sorted:", sorted(done))

    served = zactor.get([shouter.report.remote() for shouter in shouters])
    print(
        f"prepared {len(shouters)} times for {sum(served)} items,"
        f" each of {len(served)} workers busy:",
        all(served),
    )

    zactor.shutdown()


if __name__ == "__main__":
    main()
