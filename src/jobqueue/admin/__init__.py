"""What operators look at and repair: queues, workers and jobs. Every statement has a limit on its time."""
