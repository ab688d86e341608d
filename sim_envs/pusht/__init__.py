"""Push-T: push a T-shaped block onto its outline with a round pusher."""
