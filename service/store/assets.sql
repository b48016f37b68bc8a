-- name: add
INSERT INTO assets (public_id, project_id, sha256, bytes, content_type, width, height, filename, created_at, expires_at)
VALUES (:public_id, :project, :sha256, :bytes, :content_type, :width, :height, :filename, :now, :expires_at)
RETURNING id;

-- name: get
SELECT id, public_id, project_id, sha256, bytes, content_type, width, height, filename, created_at, expires_at
FROM assets WHERE public_id = :public_id AND project_id = :project;

-- What an endpoint may be handed: an asset of its own project, as long as it is kept.
-- name: for_endpoint
SELECT assets.id, assets.public_id, assets.project_id, sha256, bytes, content_type, width, height, filename,
    assets.created_at, expires_at
FROM endpoints JOIN assets ON assets.project_id = endpoints.project_id
WHERE endpoints.public_id = :endpoint AND assets.public_id = :public_id AND assets.expires_at > :now;

-- name: by_signed_link
SELECT id, public_id, project_id, sha256, bytes, content_type, width, height, filename, created_at, expires_at
FROM assets WHERE public_id = :public_id;

-- name: by_row
SELECT id, public_id, project_id, sha256, bytes, content_type, width, height, filename, created_at, expires_at
FROM assets WHERE id = :asset AND project_id = :project;

-- A file is known while an asset that has not expired, an input of a job that has not ended, or a result on its way to
-- become an asset names it.
-- name: known
SELECT 1 AS known FROM assets WHERE sha256 = :sha256 AND expires_at > :now
UNION ALL
SELECT 1 AS known FROM assets
JOIN job_inputs ON job_inputs.asset_id = assets.id
JOIN jobs ON jobs.id = job_inputs.job_id
WHERE assets.sha256 = :sha256 AND jobs.finished_at IS NULL
UNION ALL
SELECT 1 AS known FROM results WHERE sha256 = :sha256 AND asset_id IS NULL
LIMIT 1;

-- What a backup must hold: every file that `known` would spare, in the order of the hashes.
-- name: files
SELECT sha256, bytes FROM (
    SELECT sha256, bytes FROM assets WHERE expires_at > :now
    UNION
    SELECT assets.sha256, assets.bytes FROM jobs
    JOIN job_inputs ON job_inputs.job_id = jobs.id
    JOIN assets ON assets.id = job_inputs.asset_id
    WHERE jobs.finished_at IS NULL
    UNION
    SELECT sha256, bytes FROM results WHERE sha256 IS NOT NULL AND asset_id IS NULL
) AS files
WHERE sha256 > :beyond
ORDER BY sha256 LIMIT :limit;

-- name: expired
SELECT id, expires_at FROM assets
WHERE expires_at <= :before AND (expires_at, id) > (CAST(:after_time AS BIGINT), CAST(:after_row AS BIGINT))
ORDER BY expires_at, id LIMIT :limit;

-- A job shows its pictures as long as it is shown itself.
-- name: forget
DELETE FROM assets
WHERE id = :asset AND expires_at <= :before
  AND NOT EXISTS (SELECT 1 FROM job_inputs WHERE asset_id = :asset)
  AND NOT EXISTS (SELECT 1 FROM results WHERE asset_id = :asset);
