-- name: add
INSERT INTO replays (
    public_id, project_id, endpoint_id, since, until, which, state, total, after_sequence, last_sequence, created_at
)
VALUES (
    :public_id, :project, :endpoint, :since, :until, :which, 'running', :total, :after, :last, :now
)
RETURNING id;

-- name: get
SELECT replays.*, endpoints.public_id AS endpoint_public_id,
    (SELECT COUNT(*) FROM deliveries WHERE replay = replays.id AND finished_at IS NULL) AS pending
FROM replays JOIN endpoints ON endpoints.id = replays.endpoint_id
WHERE replays.public_id = :public_id AND replays.project_id = :project;

-- name: list
SELECT replays.*, endpoints.public_id AS endpoint_public_id,
    (SELECT COUNT(*) FROM deliveries WHERE replay = replays.id AND finished_at IS NULL) AS pending
FROM replays JOIN endpoints ON endpoints.id = replays.endpoint_id
WHERE replays.project_id = :project AND replays.id < :before
ORDER BY replays.id DESC LIMIT :limit;

-- A deleted endpoint's too.
-- name: list_of_endpoint
SELECT replays.*, endpoints.public_id AS endpoint_public_id,
    (SELECT COUNT(*) FROM deliveries WHERE replay = replays.id AND finished_at IS NULL) AS pending
FROM replays JOIN endpoints ON endpoints.id = replays.endpoint_id
WHERE replays.endpoint_id = (
    SELECT id FROM endpoints WHERE public_id = :endpoint AND project_id = :project
) AND replays.id < :before
ORDER BY replays.id DESC LIMIT :limit;

-- One for each endpoint at most: the index says so.
-- name: running
SELECT replays.*, endpoints.public_id AS endpoint_public_id,
    (SELECT COUNT(*) FROM deliveries WHERE replay = replays.id AND finished_at IS NULL) AS pending
FROM replays JOIN endpoints ON endpoints.id = replays.endpoint_id
WHERE replays.finished_at IS NULL ORDER BY replays.endpoint_id;

-- name: running_for
SELECT public_id FROM replays WHERE endpoint_id = :endpoint AND finished_at IS NULL;

-- Of whichever replay; more than so many nobody needs to know.
-- name: unsettled
SELECT COUNT(*) AS count FROM (
    SELECT id FROM deliveries
    WHERE replay IN (SELECT id FROM replays WHERE endpoint_id = :endpoint) AND finished_at IS NULL
    LIMIT :most
) AS counted;

-- SQLite's one writer has it anyway.
-- name: lock
SELECT after_sequence FROM replays WHERE id = :replay AND state = 'running' /*postgres FOR NO KEY UPDATE */;

-- name: move
UPDATE replays SET after_sequence = :after, owed = owed + :owed WHERE id = :replay;

-- name: end
UPDATE replays SET state = :state, finished_at = :now WHERE id = :replay AND state = 'running';

-- name: bounds
SELECT MIN(sequence) AS first, MAX(sequence) AS last FROM events
WHERE project_id = :project AND created_at >= :since AND created_at <= :until;

-- The next of the log, and what the endpoint has of it. Of an event about a job the payload is read only where the
-- endpoint's terms ask what is in it.
-- name: page
SELECT events.id, events.sequence, events.type, events.job_id, deliveries.id AS delivery_id, deliveries.state,
    deliveries.delivered_at,
    CASE WHEN events.job_id IS NULL OR CAST(:whole AS BIGINT) = 1 THEN events.payload END AS payload
FROM events
LEFT JOIN deliveries ON deliveries.event_id = events.id AND deliveries.endpoint_id = :endpoint
WHERE events.project_id = :project AND events.sequence > :after AND events.sequence <= :last
    AND events.created_at >= :since AND events.created_at <= :until
ORDER BY events.sequence LIMIT :limit;

-- A number that a delivery still names must not be another's.
-- name: forget
DELETE FROM replays
WHERE id IN (
    SELECT id FROM replays
    WHERE finished_at IS NOT NULL AND finished_at <= :before
      AND NOT EXISTS (SELECT 1 FROM deliveries WHERE replay = replays.id)
    ORDER BY finished_at LIMIT :limit
);
