"""What the outside judge runs in its own environment; see `local.judge`."""
