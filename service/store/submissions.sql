-- name: add
INSERT INTO submissions (
    job_id, project_id, vendor, number, token_hash, state, prepared, sent_at, watch_at, deadline_at, node
)
VALUES (
    :job, :project, :vendor, :number, :token_hash, 'sending', :prepared, :now, :watch_at, :deadline_at, :node
)
RETURNING *;

-- name: get
SELECT * FROM submissions WHERE id = :submission;

-- name: by_token
SELECT submissions.* FROM submissions WHERE token_hash = :token_hash AND vendor = :vendor;

-- name: of_job
SELECT * FROM submissions WHERE job_id = :job ORDER BY number;

-- name: open_count
SELECT COUNT(*) AS count FROM submissions WHERE vendor = :vendor AND state IN ('sending', 'running');

-- Each known task at a vendor, with its job's operation.
-- name: in_flight
SELECT submissions.*, jobs.operation FROM submissions JOIN jobs ON jobs.id = submissions.job_id
WHERE submissions.vendor = :vendor AND submissions.state = 'running'
ORDER BY submissions.id;

-- Each paid call that was cut off, or had no answer and is to be made again.
-- name: cut_off
SELECT submissions.*, jobs.operation FROM jobs JOIN submissions ON submissions.id = jobs.submission_id
WHERE jobs.vendor = :vendor AND jobs.state = 'submitting' AND jobs.finished_at IS NULL
    AND submissions.state IN ('sending', 'unanswered')
ORDER BY submissions.id;

-- Tasks and the calls under way, for one project or (NULL) for all; and when the next known task is asked.
-- name: at_vendors
SELECT vendor, COUNT(*) AS count, MIN(CASE WHEN vendor_task_id IS NOT NULL THEN due_at END) AS next_ask_at
FROM submissions
WHERE state IN ('sending', 'running') AND (CAST(:project AS BIGINT) IS NULL OR project_id = :project)
GROUP BY vendor;

-- One statement: between two, a job might go from one count to the other and be in neither.
-- name: busy
SELECT (SELECT COUNT(*) FROM submissions WHERE vendor = :vendor AND state IN ('sending', 'running'))
    + (SELECT COUNT(*) FROM jobs WHERE step = 'submit' AND vendor = :vendor AND node IS NOT NULL) AS count;

-- As in jobs.sql.
-- name: claim
UPDATE submissions SET node = :node, due_at = NULL
WHERE id IN (
    SELECT id FROM submissions
    WHERE vendor = :vendor AND due_at IS NOT NULL AND due_at <= :now
    ORDER BY due_at, id LIMIT :limit /*postgres FOR UPDATE SKIP LOCKED */
)
RETURNING *;

-- name: next_due
SELECT MIN(due_at) AS due_at FROM submissions WHERE vendor = :vendor AND due_at IS NOT NULL;

-- name: task_known
UPDATE submissions SET state = 'running', vendor_task_id = :task
WHERE id = :submission AND state IN ('sending', 'unanswered');

-- name: corrected
UPDATE submissions SET vendor_task_id = :task WHERE id = :submission AND state = 'running' AND vendor_task_id <> :task;

-- name: elsewhere
SELECT COUNT(*) AS count FROM submissions
WHERE vendor = :vendor AND vendor_task_id = :task AND id <> :submission;

-- name: release
UPDATE submissions SET node = NULL, due_at = :due_at, asks = asks + :asked,
    asked_at = COALESCE(CAST(:asked_at AS BIGINT), asked_at)
WHERE id = :submission AND node = :node AND state IN ('sending', 'running');

-- name: held
SELECT id FROM submissions WHERE id = :submission AND node = :node;

-- A hint makes a waiting task due; one that is in a node's hands is looked at when that node lets go.
-- name: hurry
UPDATE submissions SET due_at = :due_at
WHERE id = :submission AND node IS NULL AND state IN ('sending', 'running') AND vendor_task_id IS NOT NULL
  AND (due_at IS NULL OR due_at > :due_at);

-- What a vendor said while we were away met a closed door.
-- name: ask_all
UPDATE submissions SET due_at = :now
WHERE vendor = :vendor AND state = 'running' AND due_at IS NOT NULL AND due_at > :now;

-- The paid call had no answer. The token stays good: a late callback on it still counts.
-- name: unanswered
UPDATE submissions SET state = 'unanswered', node = NULL, due_at = NULL
WHERE id = :submission AND node = :node AND state = 'sending';

-- name: wait
UPDATE submissions SET node = NULL, due_at = NULL WHERE id = :submission AND node = :node;

-- name: close
UPDATE submissions SET state = 'closed', node = NULL, due_at = NULL WHERE id = :submission;

-- name: close_all
UPDATE submissions SET state = 'closed', node = NULL, due_at = NULL WHERE job_id = :job AND state <> 'closed';

-- name: open_by_vendor
SELECT vendor, COUNT(*) AS count FROM submissions WHERE state IN ('sending', 'running') GROUP BY vendor;
