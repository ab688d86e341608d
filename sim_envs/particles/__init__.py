"""Multi-agent particles in MuJoCo: spread, tag and world, after the multi-agent particle environments."""
