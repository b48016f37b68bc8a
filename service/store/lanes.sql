-- Whose jobs wait: each project with each of its operations once, found by steps along the index.
-- name: waiting
WITH RECURSIVE project (project_id) AS (
    SELECT MIN(project_id) FROM jobs WHERE step = :step AND vendor = :vendor AND due_at IS NOT NULL
    UNION ALL
    SELECT (
        SELECT MIN(jobs.project_id) FROM jobs
        WHERE jobs.step = :step AND jobs.vendor = :vendor AND jobs.due_at IS NOT NULL
            AND jobs.project_id > project.project_id
    ) FROM project WHERE project.project_id IS NOT NULL
), lane (project_id, operation) AS (
    SELECT project.project_id, (
        SELECT MIN(jobs.operation) FROM jobs
        WHERE jobs.step = :step AND jobs.vendor = :vendor AND jobs.due_at IS NOT NULL
            AND jobs.project_id = project.project_id
    ) FROM project WHERE project.project_id IS NOT NULL
    UNION ALL
    SELECT lane.project_id, (
        SELECT MIN(jobs.operation) FROM jobs
        WHERE jobs.step = :step AND jobs.vendor = :vendor AND jobs.due_at IS NOT NULL
            AND jobs.project_id = lane.project_id AND jobs.operation > lane.operation
    ) FROM lane WHERE lane.operation IS NOT NULL
)
SELECT project_id, operation FROM lane WHERE operation IS NOT NULL ORDER BY project_id, operation;

-- As in jobs.sql, of one job.
-- name: claim_one
UPDATE jobs SET node = :node, due_at = NULL
WHERE id = :job AND step = :step AND due_at IS NOT NULL AND due_at <= :now
RETURNING *;

-- How many of a lane are due, as far as it matters.
-- name: behind
SELECT COUNT(*) AS count FROM (
    SELECT id FROM jobs
    WHERE step = :step AND vendor = :vendor AND project_id = :project AND operation = :operation
        AND due_at IS NOT NULL AND due_at <= :now
    LIMIT :most
) AS counted;

-- As in jobs.sql, of one lane.
-- name: claim
UPDATE jobs SET node = :node, due_at = NULL
WHERE id IN (
    SELECT id FROM jobs
    WHERE step = :step AND vendor = :vendor AND project_id = :project AND operation = :operation
        AND due_at IS NOT NULL AND due_at <= :now
    ORDER BY due_at, id LIMIT :limit /*postgres FOR UPDATE SKIP LOCKED */
)
RETURNING *;
