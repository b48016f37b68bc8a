-- name: add
INSERT INTO projects (public_id, name, webhook_secret, created_at)
VALUES (:public_id, :name, :webhook_secret, :now)
RETURNING id;

-- name: list
SELECT id, public_id, name, created_at FROM projects WHERE id > :after ORDER BY id LIMIT :limit;

-- name: get
SELECT id, public_id, name, webhook_secret, created_at FROM projects WHERE id = :project;

-- name: change_webhook_secret
UPDATE projects SET webhook_secret = :sealed WHERE id = :project;

-- name: first
SELECT id FROM projects ORDER BY id LIMIT 1;

-- name: last_sequence
SELECT last_sequence FROM projects WHERE id = :project;

-- The row of the event counter: whoever holds it, no event of this project is written beside him.
-- name: lock
SELECT id FROM projects WHERE id = :project /*postgres FOR NO KEY UPDATE */;

-- name: next_sequence
UPDATE projects SET last_sequence = last_sequence + 1 WHERE id = :project RETURNING last_sequence;
