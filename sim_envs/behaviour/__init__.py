"""Learned behaviour policies: small networks trained by `train`, committed as safetensors, and played as experts."""
