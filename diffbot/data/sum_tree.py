"""A binary tree of partial sums: draw in proportion to a value that changes, in logarithmic time, vectorised."""

from __future__ import annotations

import numpy as np


class SumTree:
    """`values` float64 [n], not negative. Node 1 is the root, node i has the children 2i and 2i+1."""

    def __init__(self, values: np.ndarray) -> None:
        self.size = len(values)
        self.capacity = 1 << max(0, (self.size - 1).bit_length())
        self.sums = np.zeros(2 * self.capacity)
        self.sums[self.capacity : self.capacity + self.size] = values
        node = self.capacity
        while node > 1:
            self.sums[node // 2 : node] = self.sums[node : 2 * node].reshape(-1, 2).sum(1)
            node //= 2

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self.sums[1])

    @property
    def leaves(self) -> np.ndarray:
        """The values, [n]."""
        return self.sums[self.capacity : self.capacity + self.size]

    def get(self, indices: np.ndarray) -> np.ndarray:
        """Values at `indices`."""
        return self.leaves[indices]

    def set(self, indices: np.ndarray, values: np.ndarray) -> None:
        """Change values; of an index that occurs twice the last value counts."""
        node = indices + self.capacity
        if not len(indices):
            return
        self.sums[node] = values
        while (node := np.unique(node // 2))[0] >= 1:
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """For each number in [0, total) the index whose interval of the cumulative sum holds it."""
        mass = mass.copy()
        node = np.ones(len(mass), np.int64)
        while node[0] < self.capacity:
            left = self.sums[2 * node]
            right = (mass >= left) & (self.sums[2 * node + 1] > 0)
            mass -= np.where(right, left, 0.0)
            node = 2 * node + right
        return node - self.capacity
