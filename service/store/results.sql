-- name: add
INSERT INTO results (job_id, name, source, dies_at) VALUES (:job, :name, :source, :dies_at)
ON CONFLICT (job_id, name) DO NOTHING;

-- name: of_job
SELECT id, name, source, dies_at, kept_at, sha256, bytes, content_type, width, height
FROM results WHERE job_id = :job ORDER BY id;

-- name: keep
UPDATE results SET kept_at = :now, sha256 = :sha256, bytes = :bytes, content_type = :content_type,
    width = :width, height = :height
WHERE id = :result;

-- name: is_asset
UPDATE results SET asset_id = :asset WHERE id = :result;

-- The asset may be several jobs' result: the latest lives longest at the vendor.
-- name: made_by
SELECT results.source, jobs.finished_at FROM results JOIN jobs ON jobs.id = results.job_id
WHERE results.asset_id = :asset AND jobs.project_id = :project AND jobs.vendor = :vendor
ORDER BY results.id DESC LIMIT 1;

-- name: assets
SELECT results.name AS output, assets.id, assets.public_id, assets.project_id, assets.sha256, assets.bytes,
    assets.content_type, assets.width, assets.height, assets.filename, assets.created_at, assets.expires_at
FROM results JOIN assets ON assets.id = results.asset_id
WHERE results.job_id = :job ORDER BY results.id;
