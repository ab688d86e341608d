"""The action server `run_policy` (diffbot_msgs/RunPolicy): one goal is one episode of the nodes in its namespace.

It resets policy, executor and simulator with the goal's seed. The goal ends with the robot's `episode_result`, at its
time limit (aborted), or when it is cancelled; in both latter cases the executor's emergency stop holds the arm until the
next goal releases it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from diffbot_msgs.action import RunPolicy
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup

from diffbot.errors import DiffbotError
from diffbot_ros.episodes import EpisodeClient
from diffbot_ros.node import Node, run

FEEDBACK_S = 0.2


class StoppedError(DiffbotError):
    """The goal was cancelled or its time is over; the message says which."""


class RunPolicyNode(Node):
    """Serves one goal at a time."""

    def __init__(self) -> None:
        parameters = {
            "robot_nodes": (
                ["policy", "executor", "simulator"],
                "nodes that are reset; a real arm has no simulator",
            )
        }
        super().__init__("run_policy", parameters)
        self._busy = threading.Lock()

    def configure(self) -> None:
        self._server = ActionServer(
            self,
            RunPolicy,
            "run_policy",
            execute_callback=self._execute,
            goal_callback=self._accept,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def cleanup(self) -> None:
        if hasattr(self, "_server"):
            self._server.destroy()
            del self._server

    def _accept(self, goal: RunPolicy.Goal) -> GoalResponse:
        free = self.active and goal.seed >= 0 and not self._busy.locked()
        return GoalResponse.ACCEPT if free else GoalResponse.REJECT

    def _execute(self, handle: ServerGoalHandle) -> RunPolicy.Result:
        goal = handle.request
        start = spoken = time.monotonic()

        def check() -> None:
            nonlocal spoken
            now = time.monotonic()
            if handle.is_cancel_requested:
                raise StoppedError("cancelled")
            if goal.time_limit and now - start > goal.time_limit:
                raise StoppedError(f"the time limit of {goal.time_limit:g} s is over")
            if now - spoken > FEEDBACK_S:
                spoken = now
                status = client.policy_status
                feedback = RunPolicy.Feedback(elapsed=now - start, chunks=len(client.episode.chunks))
                feedback.inference_s = status.inference_s if status is not None else 0.0
                handle.publish_feedback(feedback)

        result = RunPolicy.Result()
        namespace = self.get_namespace().strip("/")
        with self._busy, EpisodeClient(check, namespace, tuple(self.settings["robot_nodes"])) as client:
            try:
                client.wait_ready(30.0)
                client.emergency_stop(False)
                episode = client.run(goal.seed, timeout=float("inf"))
                result.success, result.chunks = episode.success, len(episode.chunks)
                handle.succeed()
            except DiffbotError as error:
                result.message, result.chunks = str(error), len(client.episode.chunks)
                client.check = lambda: None
                try:
                    client.emergency_stop(True)
                except DiffbotError as failure:
                    result.message += f"; and the arm could not be stopped: {failure}"
                if handle.is_cancel_requested:
                    handle.canceled()
                else:
                    handle.abort()
        result.duration = time.monotonic() - start
        return result


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.run_policy, or ros2 run diffbot_ros run_policy."""
    return run(RunPolicyNode, args, threads=3)


if __name__ == "__main__":
    raise SystemExit(main())
