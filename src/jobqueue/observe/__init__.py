"""What the process says about itself: logs, metrics, and its state for systemd."""
