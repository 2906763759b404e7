"""Records the history of a queue that Clearway knows nothing of, for `verify history` to judge.

    python3 examples/history.py run.jsonl                # a queue that does what it should
    python3 examples/history.py --lose run.jsonl         # one that loses an envelope it has acknowledged
    python3 examples/history.py --overtake run.jsonl     # one that delivers two envelopes of a key in the wrong order
    cargo run --release -p clearway-verify --bin verify -- history run.jsonl

Four threads publish, one handles. The format stands in verify/README.md; nothing but the standard library is needed.
"""

import argparse
import json
import threading
import time


class Recorder:
    """Writes the lines of a history. The time and the place in the file are taken under one lock: `at` never falls."""

    def __init__(self, path, **header):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.began = time.monotonic_ns()
        self.file.write(json.dumps({"clearway_history": 1, **header}) + "\n")

    def event(self, name, **fields):
        with self.lock:
            at = time.monotonic_ns() - self.began
            self.file.write(json.dumps({"at": at, name: fields}) + "\n")

    def close(self):
        self.file.close()


class Queue:
    """What is on trial: one partition, kept in memory."""

    def __init__(self):
        self.lock = threading.Lock()
        self.stored = []

    def publish(self, key, id):
        with self.lock:
            self.stored.append((key, id))
            return len(self.stored) - 1


def publish(recorder, queue, process, count):
    for n in range(count):
        op, key, id = process * count + n, f"customer-{process}", f"{process}-{n}"
        # An event that starts something is written before it starts, one that ends something after it has ended.
        recorder.event("invoke", op=op, process=process, topic="orders", id=id, key=key, seq=n, size=len(id))
        position = queue.publish(key, id)
        recorder.event("acked", op=op, partition=0, position=position, durability="volatile")


def handle(recorder, queue, lose, overtake):
    order = list(enumerate(queue.stored))
    if lose:
        del order[len(order) // 2]
    if overtake:
        last = len(order) - 1
        earlier = next(at for at in range(last - 1, -1, -1) if order[at][1][0] == order[last][1][0])
        order[earlier], order[last] = order[last], order[earlier]
    recorder.event("subscribe", subscription=0, topic="orders", group="billing", order="key")
    for position, (key, id) in order:
        where = {"subscription": 0, "topic": "orders", "partition": 0, "position": position}
        recorder.event("deliver", **where, group="billing", id=id, key=key, attempt=1)
        recorder.event("settle", **where, how="ack")
    # From here on what the group has not seen is lost.
    recorder.event("drained", topic="orders", group="billing")
    recorder.event("ended", subscription=0)


def main():
    arguments = argparse.ArgumentParser(description="Records the history of a queue for `verify history`.")
    arguments.add_argument("file")
    arguments.add_argument("--lose", action="store_true", help="lose an envelope that was acknowledged")
    arguments.add_argument("--overtake", action="store_true", help="let an envelope overtake another one of its key")
    asked = arguments.parse_args()

    recorder = Recorder(asked.file, backend="a queue in Python", workload="4 publishers", durability="volatile")
    queue = Queue()
    publishers = [threading.Thread(target=publish, args=(recorder, queue, process, 50)) for process in range(4)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    handle(recorder, queue, asked.lose, asked.overtake)
    recorder.close()


if __name__ == "__main__":
    main()
