"""diffbot: from demonstrations to robots that move."""

__version__ = "0.1.0"
