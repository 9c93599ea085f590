-- The host's own table. `jobqueue migrate` makes the others.
CREATE TABLE IF NOT EXISTS reports (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    month  date NOT NULL,
    text   text,
    job_id bigint
);
