-- A worker says how soon it stops acting on its jobs when the database gives it no sign of life. Others may take it for gone so
-- much sooner. Workers of versions before write nothing here, and are given the time that they need.
ALTER TABLE jobqueue.workers ADD COLUMN fenced_after float8;
COMMENT ON COLUMN jobqueue.workers.fenced_after IS
    'Seconds after the last sign of life of the database after which this process acts on no job. NULL: about ten.';
