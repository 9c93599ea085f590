-- Takes a transaction number. Whoever drew a position before this statement began has a lower one: the enter trigger takes the
-- number first, then the position. out: the number.
SELECT pg_current_xact_id()::text::bigint
