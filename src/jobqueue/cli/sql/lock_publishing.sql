-- One publisher of the command line at a time until the transaction ends: two must not attach the same key twice.
SELECT pg_advisory_xact_lock(hashtextextended('jobqueue publish', 0))
