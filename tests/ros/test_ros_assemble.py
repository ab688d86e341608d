"""Episodes are assembled by stamps: topics that overtake one another change nothing."""

from __future__ import annotations

import numpy as np
from diffbot_msgs.msg import Command, EpisodeResult, StampedArray
from diffbot_ros.assemble import Assembler
from diffbot_ros.bindings import load_bindings
from diffbot_ros.convert import to_time
from hypothesis import given
from hypothesis import strategies as st

from diffbot.data.contract import Action, Contract, Field

RATE = 20.0
CONTRACT = Contract(
    observations={"position": Field((2,)), "block": Field((3,))},
    action=Action((2,)),
    rate=RATE,
    task="pusht/state",
)


def episode(start: float, steps: int, seed: int) -> dict[str, list]:
    """Messages by topic, in the order in which they are sent."""
    messages: dict[str, list] = {"position": [], "block": [], "command": []}
    for k in range(steps):
        stamp = to_time(start + k / RATE)
        for key in CONTRACT.observations:
            message = StampedArray(values=[float(k)] * CONTRACT.observations[key].size)
            message.header.stamp = stamp
            messages[key].append(message)
        command = Command(values=np.array([seed, k], np.float32))
        command.header.stamp = stamp
        messages["command"].append(command)
    result = EpisodeResult(seed=seed, success=True, steps=steps)
    result.header.stamp = to_time(start + steps / RATE)
    return {**messages, "result": [result]}


def feed(assembler: Assembler, topic: str, message: object) -> None:
    if topic == "command":
        assembler.command(message)
    elif topic == "result":
        assembler.result(message)
    else:
        assembler.observe(topic, message)


def check(assembler: Assembler, seeds: list[int], steps: int) -> None:
    episodes = assembler.take()
    assert [meta["seed"] for _, meta in episodes] == seeds
    for arrays, meta in episodes:
        assert meta["success"]
        np.testing.assert_array_equal(arrays["action"], [[meta["seed"], k] for k in range(steps)])
        np.testing.assert_array_equal(arrays["block"][:, 0], np.arange(steps))
        np.testing.assert_allclose(np.diff(arrays["time"]), 1 / RATE, atol=1e-6)


@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_any_order_between_topics_gives_the_same_episode(random, steps: int) -> None:
    assembler = Assembler(CONTRACT, load_bindings(CONTRACT))
    queues = episode(1.0, steps, 7)
    while left := [topic for topic, queue in queues.items() if queue]:
        topic = random.choice(left)
        feed(assembler, topic, queues[topic].pop(0))
    assembler.flush()
    check(assembler, [7], steps)


def test_next_episode_may_begin_before_the_last_one_is_closed() -> None:
    assembler = Assembler(CONTRACT, load_bindings(CONTRACT))
    for number, start in enumerate((1.0, 1.0 + 5 / RATE)):  # the first one takes four steps
        queues = episode(start, 4, number)
        late = queues["command"].pop()
        for topic in ("position", "block", "command", "result"):
            for message in queues[topic]:
                feed(assembler, topic, message)
        feed(assembler, "command", late)
    assembler.flush()
    check(assembler, [0, 1], 4)


def test_clock_that_starts_anew_closes_the_episode_before_it() -> None:
    assembler = Assembler(CONTRACT, load_bindings(CONTRACT))
    for seed in (3, 4):
        for topic, messages in episode(1.0, 5, seed).items():
            for message in messages:
                feed(assembler, topic, message)
    assembler.flush()
    check(assembler, [3, 4], 5)


def test_holding_for_hours_between_episodes_keeps_few_commands() -> None:
    assembler = Assembler(CONTRACT, load_bindings(CONTRACT))
    for message in episode(1.0, 1000, 0)["command"]:
        assembler.command(message)
    assert len(assembler._commands) < 150
    for topic, messages in episode(100.0, 5, 4).items():
        for message in messages:
            feed(assembler, topic, message)
    assembler.flush()
    check(assembler, [4], 5)
