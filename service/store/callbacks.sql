-- name: add
INSERT INTO callbacks (submission_id, job_id, via, body, encoding, content_type, status, digest, received_at)
VALUES (:submission, :job, :via, :body, :encoding, :content_type, :status, :digest, :now)
ON CONFLICT (submission_id, via, digest) DO NOTHING
RETURNING id;

-- name: count
SELECT COUNT(*) AS count FROM callbacks WHERE job_id = :job;

-- name: of_job
SELECT id, submission_id, via, body, encoding, content_type, status, received_at, state, confirmation, read_at
FROM callbacks WHERE job_id = :job ORDER BY id;

-- What users are shown: the bodies may be long, and are read only where they are read for their meaning.
-- name: heard
SELECT via, received_at, state FROM callbacks WHERE job_id = :job ORDER BY id;

-- name: completed_at
SELECT MIN(received_at) AS at FROM callbacks WHERE job_id = :job AND state IN ('succeeded', 'failed');

-- name: hints
SELECT id, received_at FROM callbacks
WHERE submission_id = :submission AND via = 'webhook' AND read_at IS NULL AND confirmation IS NULL
ORDER BY id;

-- name: confirm
UPDATE callbacks SET confirmation = :confirmation WHERE id = :callback;

-- A final word that nobody has read yet: an answer of the vendor, or a hint with what the vendor said to it.
-- name: to_conclude
SELECT id, submission_id, via, body, encoding, content_type, status, received_at, state, confirmation, read_at
FROM callbacks
WHERE job_id = :job AND read_at IS NULL AND (via <> 'webhook' OR confirmation IS NOT NULL)
ORDER BY id;

-- name: read
UPDATE callbacks SET state = :state, read_at = :now WHERE id = :callback;

-- Only hints: a final answer that waits to be concluded is nobody else's to read.
-- name: read_hints
UPDATE callbacks SET state = :state, read_at = :now
WHERE submission_id = :submission AND via = 'webhook' AND confirmation IS NULL
  AND read_at IS NULL AND received_at <= :until;
