"""The demonstration's models learn what they are there to learn."""

from __future__ import annotations

import pytest

from zactor.cli.demo import models


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_each_version_is_right_most_of_the_time(version: str) -> None:
    model = models.train(version)
    test = models.samples(150, seed=9)
    assert sum(model.predict(features) == label for features, label in test) > 0.85 * len(test)


def test_training_is_repeatable() -> None:
    data = models.samples(90, seed=9)
    first, second = (models.Softmax(models.samples(90, seed=1), rounds=2) for _ in range(2))
    assert [first.predict(x) for x, _ in data] == [second.predict(x) for x, _ in data]
    assert first.weights == second.weights
