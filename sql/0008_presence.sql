-- A worker that was killed is known to be gone before its leases run out: it holds an advisory lock for as long as its
-- connection lives, and says here which one.
ALTER TABLE jobqueue.workers ADD COLUMN presence int;
COMMENT ON COLUMN jobqueue.workers.presence IS
    'The advisory lock (1785684593, presence) is held by this process for as long as it lives. NULL: it cannot hold one (behind a pooler).';
