"""Importing this module registers every task with gymnasium: `gymnasium.make("sim_envs.gym:diffbot/pusht-state-v0")`."""

from sim_envs.registry import register_gymnasium

register_gymnasium()
