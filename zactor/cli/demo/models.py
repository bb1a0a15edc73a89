"""Three versions of a small classifier, in plain Python, and the data that they learn from.

Points of four features around three centres. v1 knows only the centres of its classes, v2 asks
the nearest neighbours, v3 is a softmax regression. Everything is seeded: each version learns the
same wherever and whenever it is trained.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CENTRES = ((0.0, 0.0, 1.0, 0.5), (2.0, 1.0, 0.0, 0.0), (0.5, 2.2, 2.0, 1.0))
SPREADS = (0.5, 1.5, 0.5)

Features = tuple[float, ...]
Sample = tuple[Features, int]


class Classifier(Protocol):
    """What all versions can do."""

    def predict(self, features: Features) -> int:
        """Return the class that the features most likely belong to."""


def samples(count: int, seed: int) -> list[Sample]:
    """Return labelled points."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        label = number % len(CENTRES)
        centre, spread = CENTRES[label], SPREADS[label]
        made.append((tuple(chance.gauss(x, spread) for x in centre), label))
    return made


def train(version: str) -> Classifier:
    """Train one version on the training data."""
    data = samples(600, seed=1)
    kinds: dict[str, Callable[[list[Sample]], Classifier]] = {
        "v1": NearestCentre,
        "v2": NearestNeighbours,
        "v3": Softmax,
    }
    return kinds[version](data)


def _distance(a: Features, b: Features) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


class NearestCentre:
    """v1: the class with the nearest mean."""

    def __init__(self, data: Sequence[Sample]) -> None:
        self.means = []
        for label in range(len(CENTRES)):
            points = [features for features, of in data if of == label]
            self.means.append(
                tuple(sum(axis) / len(points) for axis in zip(*points, strict=True))
            )

    def predict(self, features: Features) -> int:
        """Return the class of the nearest mean."""
        distances = [_distance(features, mean) for mean in self.means]
        return distances.index(min(distances))


class NearestNeighbours:
    """v2: a vote among the nine nearest of some training points."""

    def __init__(self, data: Sequence[Sample], kept: int = 60) -> None:
        self.data = list(data)[:kept]

    def predict(self, features: Features) -> int:
        """Return what most of the nearest points are."""
        nearest = sorted((_distance(features, point), label) for point, label in self.data)[:9]
        return Counter(label for _, label in nearest).most_common(1)[0][0]


class Softmax:
    """v3: a softmax regression on the features and their squares."""

    def __init__(self, data: Sequence[Sample], rounds: int = 60) -> None:
        width = 2 * len(CENTRES[0]) + 1
        self.weights = [[0.0] * width for _ in CENTRES]
        order = list(data)
        chance = random.Random(2)
        for turn in range(rounds):
            chance.shuffle(order)
            rate = 0.05 / (1 + turn)
            for features, label in order:
                inputs = self._inputs(features)
                for row, probability in enumerate(self._probabilities(inputs)):
                    error = probability - (row == label)
                    weights = self.weights[row]
                    for column, value in enumerate(inputs):
                        weights[column] -= rate * error * value

    def predict(self, features: Features) -> int:
        """Return the most probable class."""
        probabilities = self._probabilities(self._inputs(features))
        return probabilities.index(max(probabilities))

    def _inputs(self, features: Features) -> list[float]:
        return [1.0, *features, *(value * value for value in features)]

    def _probabilities(self, inputs: Sequence[float]) -> list[float]:
        scores = [sum(w * x for w, x in zip(row, inputs, strict=True)) for row in self.weights]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        total = sum(powers)
        return [power / total for power in powers]
