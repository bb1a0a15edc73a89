# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "zactor"]
# ///
"""A pipeline of references: big values go from stage to stage, past the program in the middle.

The driver hands the reference to one stage's result to the next stage and never holds the data.
A stage starts when its argument is there. A reference that is given directly arrives as its
value; one inside a list or dict arrives as a reference.

Expected output:

    the driver holds references: ObjectRef
    brightness of 4 frames: [0.0, 20.0, 40.0, 60.0]
    4 references in a list, opened where they arrived: 120.0
"""

import numpy as np

import zactor


@zactor.remote
class Camera:
    def frame(self, number: int) -> np.ndarray:
        return np.full((1000, 1000), number * 10, dtype=np.uint8)


@zactor.remote
class Filter:
    def brighten(self, frame: np.ndarray) -> np.ndarray:
        # Arrays arrive without a copy, and read-only: they are shared memory.
        assert not frame.flags.writeable
        return frame * 2


@zactor.remote
class Meter:
    def measure(self, frame: np.ndarray) -> float:
        return float(frame.mean())

    def total(self, refs: list[zactor.ObjectRef]) -> float:
        return sum(self.measure(frame) for frame in zactor.get(refs))


def main() -> None:
    zactor.init(num_cpus=3)

    camera, brightener, meter = Camera.remote(), Filter.remote(), Meter.remote()
    frames = [camera.frame.remote(number) for number in range(4)]
    bright = [brightener.brighten.remote(frame) for frame in frames]
    means = [meter.measure.remote(frame) for frame in bright]
    print("the driver holds references:", type(bright[0]).__name__)
    print("brightness of 4 frames:", zactor.get(means))
    total = zactor.get(meter.total.remote(bright))
    print("4 references in a list, opened where they arrived:", total)

    zactor.shutdown()


if __name__ == "__main__":
    main()
