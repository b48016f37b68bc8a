-- name: add
INSERT INTO keys (public_id, project_id, role, name, hash, created_at)
VALUES (:public_id, :project, :role, :name, :hash, :now)
RETURNING id;

-- name: by_hash
SELECT keys.id, keys.public_id, keys.project_id, keys.role, keys.name, keys.hash, keys.created_at,
       keys.project_id = (SELECT MIN(id) FROM projects) AS first_project
FROM keys
WHERE keys.hash = :hash AND keys.revoked_at IS NULL;

-- name: get
SELECT id, public_id, role, name, created_at FROM keys WHERE public_id = :public_id AND project_id = :project;

-- name: exists
SELECT id FROM keys WHERE hash = :hash;

-- name: list
SELECT id, public_id, role, name, created_at
FROM keys
WHERE project_id = :project AND revoked_at IS NULL AND id > :after
ORDER BY id LIMIT :limit;

-- name: revoke
UPDATE keys SET revoked_at = :now WHERE public_id = :public_id AND project_id = :project AND revoked_at IS NULL;

-- name: other_admins
SELECT COUNT(*) AS count FROM keys
WHERE project_id = :project AND revoked_at IS NULL AND role = 'admin' AND public_id <> :public_id;
