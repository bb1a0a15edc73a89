# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""Map and reduce with tasks: functions that run anywhere, with results passed by reference.

`@zactor.remote` on a function makes a task of each call. `num_returns` splits a result into
several references, so that each reducer gets only its part, straight from the mappers.

Expected output:

    12 mappers, 3 reducers
    most common: the 36, and 24, has 24, mailbox 24, to 24
"""

from collections import Counter

import zactor

TEXT = "the actor has a mailbox and the mailbox has order and to send is to forget the rest"
REDUCERS = 3


@zactor.remote(num_returns=REDUCERS)
def count_words(text: str) -> list[Counter[str]]:
    """Count the words of one part, split by who is to add them up."""
    parts: list[Counter[str]] = [Counter() for _ in range(REDUCERS)]
    for word in text.split():
        parts[len(word) % REDUCERS][word] += 1
    return parts


@zactor.remote
def add_up(*parts: Counter[str]) -> Counter[str]:
    """Add the counts of one share of the words, over all parts of the text."""
    return sum(parts, Counter())


def main() -> None:
    zactor.init(num_cpus=2)

    documents = [TEXT] * 12
    mapped = [
        count_words.remote(document) for document in documents
    ]  # 12 lists of 3 references
    shares = zip(*mapped, strict=True)
    reduced = [add_up.remote(*share) for share in shares]
    total = sum(zactor.get(reduced), Counter())

    print(f"{len(documents)} mappers, {REDUCERS} reducers")
    common = sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]
    print("most common:", ", ".join(f"{word} {n}" for word, n in common))

    zactor.shutdown()


if __name__ == "__main__":
    main()
