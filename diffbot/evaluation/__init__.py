"""Rollouts on paired seeds, confidence intervals, benchmarks and reports."""
