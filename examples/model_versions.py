# /// script
# requires-python = ">=3.11"
# dependencies = ["scikit-learn", "zactor"]
# ///
"""Several versions of a scikit-learn model, served side by side by warm actors.

Each version is trained once, in a process of its own, and answers from memory from then on. A
router sends every tenth request to the candidate, compares the two, and promotes it.

Expected output:

    accuracy [0.9..., 0.9...]
    of 100 requests: 90 to v1, 10 to v2
    they agree on ... of 20 requests
    after the promotion: 100 to v2
"""

from collections import Counter

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import zactor

FLOWERS = load_iris(return_X_y=True)


@zactor.remote
class Model:
    def __init__(self, version: str, estimator) -> None:
        x, self.x_test, y, self.y_test = train_test_split(*FLOWERS, random_state=0)
        self.version, self.model = version, estimator.fit(x, y)

    def accuracy(self) -> float:
        return round(self.model.score(self.x_test, self.y_test), 2)

    def predict(self, row) -> tuple[str, int]:
        return self.version, int(self.model.predict([row])[0])


@zactor.remote
class Router:
    def __init__(self, stable: str, candidate: str, every: int) -> None:
        self.models = zactor.get_actor(stable), zactor.get_actor(candidate)
        self.every, self.number = every, 0

    def predict(self, row) -> zactor.ObjectRef:
        self.number += 1
        return self.models[self.number % self.every == 0].predict.remote(row)


def serve(router: zactor.actor.ActorHandle, rows) -> str:
    refs = zactor.get([router.predict.remote(rows[n % len(rows)]) for n in range(100)])
    counts = Counter(version for version, _ in zactor.get(refs))
    return ", ".join(f"{n} to {version}" for version, n in sorted(counts.items()))


def main() -> None:
    zactor.init(num_cpus=3)

    v1 = Model.options(name="model-v1").remote("v1", LogisticRegression(max_iter=1000))
    v2 = Model.options(name="model-v2").remote("v2", RandomForestClassifier(random_state=0))
    print("accuracy", zactor.get([v1.accuracy.remote(), v2.accuracy.remote()]))
    router = Router.remote("model-v1", "model-v2", every=10)
    rows = FLOWERS[0][::7][:20]
    print("of 100 requests:", serve(router, rows))

    pairs = [zactor.get([v1.predict.remote(row), v2.predict.remote(row)]) for row in rows]
    print(f"they agree on {sum(a[1] == b[1] for a, b in pairs)} of {len(rows)} requests")
    router = Router.remote("model-v1", "model-v2", every=1)
    print("after the promotion:", serve(router, rows))

    zactor.shutdown()


if __name__ == "__main__":
    main()
