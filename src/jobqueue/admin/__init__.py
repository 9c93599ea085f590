"""What people look at and change: queues, workers and jobs, read and repaired within limits."""
