"""Tasks of gymnasium and gymnasium-robotics: mazes, locomotion, Franka kitchen, Adroit hand, Fetch."""
