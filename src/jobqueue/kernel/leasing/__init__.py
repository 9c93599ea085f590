"""Who holds a job, for how long, and who takes the jobs of a gone worker."""
