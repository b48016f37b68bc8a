-- name: add
INSERT INTO signing_keys (public_id, project_id, public_key, private_key, created_at)
VALUES (:public_id, :project, :public_key, :private_key, :now);

-- name: newest
SELECT public_id, public_key, private_key, signs_until FROM signing_keys
WHERE project_id = :project AND signs_until IS NULL;

-- A clock that was set back brings no private half back.
-- name: that_sign
SELECT public_id, public_key, private_key, signs_until FROM signing_keys
WHERE project_id = :project AND (signs_until IS NULL OR signs_until > :now) AND private_key IS NOT NULL
ORDER BY id DESC;

-- name: published
SELECT public_id, public_key FROM signing_keys ORDER BY id;

-- name: projects_without
SELECT id FROM projects WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE project_id = projects.id) ORDER BY id;

-- name: retire
UPDATE signing_keys SET signs_until = :until WHERE project_id = :project AND signs_until IS NULL;

-- name: remove_all
DELETE FROM signing_keys WHERE project_id = :project;

-- name: thin_out
DELETE FROM signing_keys
WHERE project_id = :project AND signs_until <= :now
    AND id <= (SELECT id FROM signing_keys WHERE project_id = :project ORDER BY id DESC LIMIT 1 OFFSET :most);

-- name: drop_private_halves
UPDATE signing_keys SET private_key = NULL
WHERE id IN (
    SELECT id FROM signing_keys WHERE signs_until <= :now AND private_key IS NOT NULL ORDER BY signs_until LIMIT :limit
);

-- name: forget
DELETE FROM signing_keys
WHERE id IN (SELECT id FROM signing_keys WHERE signs_until <= :before ORDER BY signs_until LIMIT :limit);
