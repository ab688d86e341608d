"""Noise to data and back on plain tensors: schedules, predictions, solvers, guidance, constraints, distillation."""
