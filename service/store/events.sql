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

-- name: of_job
SELECT id, public_id, project_id, sequence, type, payload, created_at, job_id
FROM events WHERE job_id = :job ORDER BY id;
