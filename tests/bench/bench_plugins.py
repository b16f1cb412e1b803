"""Contenders that tests name as ``bench_plugins:Class``: good ones, and every bad kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np


class Counting:
    """Writes 0, 1, 2, ... whatever the model."""

    threads = 3

    def __init__(self, vocab):
        self.vocab = vocab
        self.batch = self.position = 0

    def start(self, batch, seed):
        self.batch, self.position = batch, seed

    def write(self, count):
        row = np.arange(self.position, self.position + count) % self.vocab
        self.position += count
        return np.tile(row, (self.batch, 1))

    def follow(self, first, noise):
        return (noise.argmax(axis=-1).T.astype(np.int64) + first[:, None]) % self.vocab

    def read(self, tokens):
        pass

    def logits(self, tokens):
        return np.eye(self.vocab, dtype=np.float32)[tokens]

    def close(self):
        print("closed")


class Good:
    key = "good"
    title = "a contender that counts"
    precision = "float32"
    group = "peer"
    device = "cpu"

    def missing(self, card):
        return None

    def load(self, model, threads):
        return Counting(model.card.vocab)


class OnGpu(Good):
    key = "on-gpu"
    device = "cuda"


class Noisy(Good):
    def load(self, model, threads):
        print("loading", model.name)
        os.write(1, b'{"number": 1, "seconds": 0.0, "threads": 99}\n')
        subprocess.run([sys.executable, "-c", "print('a child speaks')"], check=True)
        return super().load(model, threads)


class Crashes(Good):
    key = "crashes"

    def load(self, model, threads):
        print("the driver is on fire", file=sys.stderr, flush=True)
        os._exit(3)


class Killed(Good):
    def load(self, model, threads):
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Good):
    key = "hangs"

    def load(self, model, threads):
        time.sleep(600)


class Raises(Good):
    key = "raises"

    def load(self, model, threads):
        running = super().load(model, threads)

        def no(*_):
            raise RuntimeError("the kernel does not like it\nand says so at length")

        running.logits = no
        return running


class Absent(Good):
    key = "absent"

    def missing(self, card):
        return "it is not installed"


class NoContender:
    key = "nothing else"
