-- name: add
INSERT INTO signing_keys (public_id, project_id, public_key, private_key, created_at)
VALUES (:public_id, :project, :public_key, :private_key, :now);

-- name: newest
SELECT public_id, public_key, private_key FROM signing_keys WHERE project_id = :project ORDER BY id DESC LIMIT 1;

-- name: all
SELECT public_id, public_key, private_key FROM signing_keys ORDER BY id;

-- name: projects_without
SELECT id FROM projects WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE project_id = projects.id) ORDER BY id;
