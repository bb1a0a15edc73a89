# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""A counter: the smallest actor there is, found again by its name.

An actor is an instance that lives in a process of its own. Calling a method returns a reference
to a result at once; calls from one caller run one at a time, in the order they were made.

Expected output:

    three calls, in order: [1, 2, 3]
    the same counter by name: 4
    a mistake in a method is raised where its result is asked for: too far
    and the counter goes on: 5
"""

import zactor


@zactor.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value

    def jump(self, by: int) -> int:
        if by > 100:
            raise ValueError("too far")
        self.value += by
        return self.value


def main() -> None:
    zactor.init(num_cpus=1)

    counter = Counter.options(name="visits").remote()
    refs = [counter.increment.remote() for _ in range(3)]
    print("three calls, in order:", zactor.get(refs))

    again = zactor.get_actor("visits")
    print("the same counter by name:", zactor.get(again.increment.remote()))

    try:
        zactor.get(counter.jump.remote(1000))
    except ValueError as error:  # the user's own class, with the remote traceback in its text
        print("a mistake in a method is raised where its result is asked for:", error.cause)
    print("and the counter goes on:", zactor.get(counter.increment.remote()))

    zactor.shutdown()


if __name__ == "__main__":
    main()
