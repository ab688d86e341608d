"""The compiled sampler: the same network, with its conditioning done once per chunk and its step in a fast runtime."""

from diffbot.control.engine.backends import BACKENDS, choose_backend
from diffbot.control.engine.install import Engine, accelerate

__all__ = ["BACKENDS", "Engine", "accelerate", "choose_backend"]
