# /// script
# requires-python = ">=3.11"
# dependencies = ["zactor"]
# ///
"""Thousands of small actors in one process: `isolation="shared"`.

A process for each account, player or device would be a waste. Shared actors have the same
semantics, one call at a time and in order, with ids, names and handles of their own; they give
up the isolation of a process.

Expected output:

    2000 accounts in 1 process
    after 1000 transfers: 2000000 in all, as before
    the busiest account made ... transfers
"""

import os
import random

import zactor

ACCOUNTS = 2000


@zactor.remote(isolation="shared")
class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance
        self.transfers = 0

    def pay(self, amount: int, to: zactor.actor.ActorHandle) -> zactor.ObjectRef:
        amount = min(amount, self.balance)
        self.balance -= amount
        self.transfers += 1
        return to.receive.remote(amount)  # actors call each other directly

    def receive(self, amount: int) -> int:
        self.balance += amount
        return amount

    def state(self) -> tuple[int, int, int]:
        return self.balance, self.transfers, os.getpid()


def main() -> None:
    zactor.init(num_cpus=2)

    accounts = [Account.remote(1000) for _ in range(ACCOUNTS)]
    choose = random.Random(7)
    payments = []
    for _ in range(1000):
        payer, payee = choose.sample(accounts, 2)
        payments.append(payer.pay.remote(choose.randrange(1, 500), payee))
    zactor.get(zactor.get(payments))  # a payment's result is the reference to its receipt

    states = zactor.get([account.state.remote() for account in accounts])
    processes = {pid for _, _, pid in states}
    print(f"{len(accounts)} accounts in {len(processes)} process")
    print(
        "after 1000 transfers:", sum(balance for balance, _, _ in states), "in all, as before"
    )
    print("the busiest account made", max(n for _, n, _ in states), "transfers")

    zactor.shutdown()


if __name__ == "__main__":
    main()
