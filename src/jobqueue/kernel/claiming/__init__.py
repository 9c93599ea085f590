"""Which jobs are leased next, and how many."""
