-- name: add
INSERT INTO events (public_id, project_id, sequence, type, job_id, payload, created_at)
VALUES (:public_id, :project, :sequence, :type, :job, :payload, :now)
RETURNING id;

-- name: get
SELECT id, public_id, project_id, sequence, type, payload, created_at, job_id
FROM events WHERE public_id = :public_id AND project_id = :project;

-- name: by_row
SELECT id, public_id, project_id, sequence, type, payload, created_at, job_id FROM events WHERE id = :event;

-- name: after
SELECT id, public_id, project_id, sequence, type, payload, created_at, job_id
FROM events
WHERE project_id = :project AND sequence > :after AND (CAST(:type AS TEXT) IS NULL OR type = :type)
ORDER BY sequence LIMIT :limit;

-- name: recent
SELECT id, public_id, project_id, sequence, type, payload, created_at, job_id
FROM events
WHERE project_id = :project AND sequence > (SELECT last_sequence FROM projects WHERE id = :project) - :most
  AND CAST(:types AS TEXT) LIKE '% ' || type || ' %'
ORDER BY sequence DESC LIMIT :limit;

-- name: of_job
SELECT id, public_id, project_id, sequence, type, payload, created_at, job_id
FROM events WHERE job_id = :job ORDER BY id;

-- Where a project's log begins: its oldest event, or the next one there will be.
-- name: oldest
SELECT COALESCE(
    (SELECT sequence FROM events WHERE project_id = :project ORDER BY sequence LIMIT 1), last_sequence + 1
) AS sequence
FROM projects WHERE id = :project;

-- Projects whose log begins with an event that is old enough to go.
-- name: old_logs
SELECT id FROM projects
WHERE id > :after
  AND (SELECT created_at FROM events WHERE project_id = projects.id ORDER BY sequence LIMIT 1) <= :before
ORDER BY id LIMIT :limit;

-- The front of a log: how many rows hang on each event, and how many of its deliveries must stay.
-- name: front
SELECT id, created_at, job_id,
    (SELECT CAST(COUNT(*) + COALESCE(SUM(attempts), 0) AS BIGINT) FROM deliveries WHERE event_id = front.id) AS weight,
    (
        SELECT COUNT(*) FROM deliveries
        WHERE event_id = front.id AND (finished_at IS NULL OR finished_at > :before OR state IN ('pending', 'held'))
    ) AS staying
FROM (
    SELECT id, sequence, created_at, job_id FROM events WHERE project_id = :project ORDER BY sequence LIMIT :limit
) AS front
ORDER BY sequence;

-- On PostgreSQL nobody can owe this event to one more endpoint between our look at its deliveries and its end: the
-- foreign key of a new delivery waits for the lock.
-- name: lock
SELECT id FROM events WHERE id = :event /*postgres FOR UPDATE */;

-- The newest row stays: SQLite would give its number to the next event, and bodies of messages in memory are known by
-- that number.
-- name: remove
DELETE FROM events
WHERE id = :event AND created_at <= :before AND id < (SELECT MAX(id) FROM events)
  AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event_id = :event);
