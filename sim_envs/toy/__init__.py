"""Toy problems in the plane: distributions whose shape is known exactly, and one-step bandits."""
