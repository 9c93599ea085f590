"""Who holds a job, for how long, and what becomes of the jobs of a worker that is gone."""
