-- Whether row-level security hides the queue's table from this role: no policy for it to see rows, or none to change them.
-- in: table, qualified and quoted. out: the role, and whether. Plan: the system's own indexes.
SELECT current_user::text, row_security_active(%(table)s::regclass) AND EXISTS (
    SELECT FROM unnest('{r,w}'::"char"[]) AS needed (command)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = %(table)s::regclass AND p.polpermissive AND p.polcmd IN ('*', needed.command)
          AND EXISTS (SELECT FROM unnest(p.polroles) AS r (oid)
                      WHERE r.oid = 0 OR pg_has_role(current_user, r.oid, 'USAGE'))))
