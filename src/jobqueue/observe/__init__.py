"""What the process tells about itself: logs, metrics, and its state to systemd."""
