-- name: add
INSERT INTO jobs (
    public_id, project_id, vendor, operation, state, step, due_at, request, charged, created_at, staged_at, retry_of,
    metadata_rows
)
VALUES (
    :public_id, :project, :vendor, :operation, 'queued', :step, :now, :request, 'no', :now, :staged_at, :retry_of,
    :metadata_rows
)
RETURNING id;

-- name: add_metadata
INSERT INTO job_metadata (job_id, project_id, pair) VALUES (:job, :project, :pair)
ON CONFLICT (job_id, pair) DO NOTHING;

-- Locked, so that nobody deletes a job between its being read and its rows being written.
-- name: without_metadata
SELECT id, project_id, request FROM jobs WHERE metadata_rows IS NULL ORDER BY id LIMIT :limit
/*postgres FOR UPDATE SKIP LOCKED */;

-- name: has_metadata
UPDATE jobs SET metadata_rows = :rows WHERE id = :job;

-- name: add_input
INSERT INTO job_inputs (job_id, name, source, asset_id, link) VALUES (:job, :name, :source, :asset, :link);

-- name: inputs
SELECT name, source, asset_id, link FROM job_inputs WHERE job_id = :job ORDER BY name;

-- name: staged_input
UPDATE job_inputs SET asset_id = :asset WHERE job_id = :job AND name = :name;

-- name: remember_key
INSERT INTO idempotency_keys (project_id, key, fingerprint, job_id, created_at)
VALUES (:project, :key, :fingerprint, :job, :now);

-- name: remembered_key
SELECT fingerprint, job_id FROM idempotency_keys
WHERE project_id = :project AND key = :key AND created_at >= :since;

-- name: forget_key
DELETE FROM idempotency_keys WHERE project_id = :project AND key = :key AND created_at < :since;

-- name: get
SELECT * FROM jobs WHERE public_id = :public_id AND project_id = :project;

-- name: by_row
SELECT * FROM jobs WHERE id = :job;

-- What a unit decides of a job holds until it commits: on PostgreSQL other units run beside it.
-- name: locked
SELECT * FROM jobs WHERE id = :job /*postgres FOR NO KEY UPDATE */;

-- name: list
SELECT * FROM jobs
WHERE project_id = :project AND id < :before
  AND (CAST(:state AS TEXT) IS NULL OR state = :state)
  AND (CAST(:operation AS TEXT) IS NULL OR operation = :operation)
  AND (CAST(:vendor AS TEXT) IS NULL OR vendor = :vendor)
ORDER BY id DESC LIMIT :limit;

-- How many jobs have a pair, as far as it matters.
-- name: pair_count
SELECT COUNT(*) AS count FROM (
    SELECT job_id FROM job_metadata WHERE project_id = :project AND pair = :pair LIMIT :most
) AS counted;

-- One pair leads, by its index; whether all of them hold is asked of each job that it finds. Pairs are of one length and
-- written in hex, so that LIKE finds a whole one or none.
-- name: list_by_metadata
SELECT jobs.* FROM job_metadata AS found JOIN jobs ON jobs.id = found.job_id
WHERE found.project_id = :project AND found.pair = :pair AND found.job_id < :before
  AND (CAST(:state AS TEXT) IS NULL OR jobs.state = :state)
  AND (CAST(:operation AS TEXT) IS NULL OR jobs.operation = :operation)
  AND (CAST(:vendor AS TEXT) IS NULL OR jobs.vendor = :vendor)
  AND CAST(:count AS BIGINT) = (
    SELECT COUNT(*) FROM job_metadata AS held
    WHERE held.job_id = found.job_id AND CAST(:pairs AS TEXT) LIKE '%' || held.pair || '%'
  )
ORDER BY found.job_id DESC LIMIT :limit;

-- What is under way, for one project or (NULL) for all.
-- name: under_way
SELECT vendor, state, COUNT(*) AS count FROM jobs
WHERE finished_at IS NULL AND (CAST(:project AS BIGINT) IS NULL OR project_id = :project)
GROUP BY vendor, state;

-- SQLite has one writer: nobody can claim the same row between the inner and the outer query. On PostgreSQL another
-- node may be claiming now: its rows are passed over rather than waited for.
-- name: claim
UPDATE jobs SET node = :node, due_at = NULL
WHERE id IN (
    SELECT id FROM jobs
    WHERE step = :step AND vendor = :vendor AND due_at IS NOT NULL AND due_at <= :now
    ORDER BY due_at, id LIMIT :limit /*postgres FOR UPDATE SKIP LOCKED */
)
RETURNING *;

-- For work that one project could fill all places with: the first :most of each project, those in hand included.
-- A query with ranks can't lock rows, so the outer one looks again whether a row is still due.
-- name: claim_fairly
UPDATE jobs SET node = :node, due_at = NULL
WHERE id IN (
    SELECT id FROM (
        SELECT due.id, due.due_at,
            ROW_NUMBER() OVER (PARTITION BY due.project_id ORDER BY due.due_at, due.id) + (
                SELECT COUNT(*) FROM jobs AS held
                WHERE held.node IS NOT NULL AND held.step = :step AND held.vendor = :vendor
                    AND held.project_id = due.project_id
            ) AS place
        FROM jobs AS due
        WHERE due.step = :step AND due.vendor = :vendor AND due.due_at IS NOT NULL AND due.due_at <= :now
    ) AS placed
    WHERE place <= :most
    ORDER BY place, due_at, id LIMIT :limit
) AND due_at IS NOT NULL
RETURNING *;

-- name: next_due
SELECT MIN(due_at) AS due_at FROM jobs WHERE step = :step AND vendor = :vendor AND due_at IS NOT NULL;

-- Hand a held job back: to the same step later, to another step, or (step NULL) to its submission.
-- name: hand_on
UPDATE jobs SET step = :step, due_at = :due_at, node = NULL, tries = :tries
WHERE id = :job AND node = :node;

-- name: start_staging
UPDATE jobs SET state = 'staging' WHERE id = :job AND node = :node AND state = 'queued';

-- name: staged
UPDATE jobs SET state = 'queued', staged_at = :now, step = 'submit', due_at = :now, node = NULL, tries = 0
WHERE id = :job AND node = :node AND state = 'staging';

-- name: submitting
UPDATE jobs SET state = 'submitting', step = NULL, due_at = NULL, node = NULL,
    submissions = submissions + 1, submission_id = :submission, charged = 'unknown',
    possible_duplicate_at = COALESCE(:possible_duplicate_at, possible_duplicate_at)
WHERE id = :job AND node = :node AND state IN ('queued', 'submitting');

-- The vendor said no to the call: it is as if it had not been made.
-- name: not_submitted
UPDATE jobs SET state = 'queued', step = 'submit', due_at = :due_at, tries = tries + :counted,
    possible_duplicate_at = COALESCE(possible_duplicate_at, :possible_duplicate_at),
    charged = CASE WHEN COALESCE(possible_duplicate_at, :possible_duplicate_at) IS NULL THEN 'no' ELSE 'unknown' END
WHERE id = :job AND submission_id = :submission AND state = 'submitting';

-- name: again
UPDATE jobs SET step = 'submit', due_at = :now, tries = 0
WHERE id = :job AND submission_id = :submission AND state = 'submitting';

-- name: running
UPDATE jobs SET state = 'running', vendor_task_id = :task, submitted_at = :now, submission_id = :submission,
    step = NULL, due_at = NULL, node = NULL, tries = 0, faults = 0
WHERE id = :job AND state IN ('queued', 'submitting')
RETURNING *;

-- The vendor's own answer names another task than an unsigned callback did.
-- name: corrected
UPDATE jobs SET vendor_task_id = :task WHERE id = :job AND submission_id = :submission AND state = 'running';

-- name: progressed
UPDATE jobs SET progress = :progress WHERE id = :job AND state = 'running';

-- name: to_conclude
UPDATE jobs SET step = 'conclude', due_at = :now, node = NULL
WHERE id = :job AND state IN ('submitting', 'running');

-- The first final callback wins this; a late twin changes nothing.
-- name: fetching
UPDATE jobs SET state = 'fetching', step = 'fetch', due_at = :now, node = NULL, tries = 0, faults = 0, progress = NULL,
    submission_id = :submission, vendor_task_id = COALESCE(:task, vendor_task_id),
    submitted_at = COALESCE(submitted_at, :now), charged = :charged, credits = :credits
WHERE id = :job AND state IN ('submitting', 'running');

-- name: succeed
UPDATE jobs SET state = 'succeeded', step = NULL, due_at = NULL, node = NULL, progress = 100, finished_at = :now
WHERE id = :job AND node = :node AND state = 'fetching'
RETURNING *;

-- That the last submission was not charged says nothing of an earlier one whose answer was lost.
-- name: fail
UPDATE jobs SET state = 'failed', step = NULL, due_at = NULL, node = NULL, finished_at = :now, error = :error,
    charged = CASE
        WHEN :charged = 'no' AND possible_duplicate_at IS NOT NULL THEN 'unknown' ELSE COALESCE(:charged, charged)
    END
WHERE id = :job AND state NOT IN ('succeeded', 'failed', 'canceled')
  AND (CAST(:node AS BIGINT) IS NULL OR node = :node)
RETURNING *;

-- name: cancel
UPDATE jobs SET state = 'canceled', step = NULL, due_at = NULL, node = NULL, finished_at = :now
WHERE id = :job AND state NOT IN ('succeeded', 'failed', 'canceled')
RETURNING *;

-- After a restore: the installation that was backed up may have handed these in meanwhile, and paid for them.
-- name: doubt_waiting
UPDATE jobs SET possible_duplicate_at = :now, charged = 'unknown'
WHERE finished_at IS NULL AND state IN ('queued', 'staging') AND possible_duplicate_at IS NULL;

-- name: try_later
UPDATE jobs SET due_at = :due_at, node = NULL, faults = faults + :counted WHERE id = :job AND node = :node;

-- name: old_keys
SELECT project_id, key, job_id FROM idempotency_keys WHERE created_at < :since ORDER BY created_at LIMIT :limit;

-- A job stays as long as an event or an Idempotency-Key names it.
-- name: removable
SELECT id FROM jobs
WHERE id = :job AND finished_at <= :before
  AND NOT EXISTS (SELECT 1 FROM events WHERE job_id = :job)
  AND NOT EXISTS (SELECT 1 FROM idempotency_keys WHERE job_id = :job)
/*postgres FOR UPDATE */;

-- name: assets
SELECT asset_id FROM job_inputs WHERE job_id = :job AND asset_id IS NOT NULL
UNION
SELECT asset_id FROM results WHERE job_id = :job AND asset_id IS NOT NULL;

-- name: remove_webhook
DELETE FROM endpoints WHERE job_id = :job;

-- What hangs on it goes with it: inputs, keys, submissions, callbacks, results.
-- name: remove
DELETE FROM jobs WHERE id = :job;

-- Both read nothing but an index, and only its live part.
-- name: waiting
SELECT step, vendor, COUNT(*) AS count, MIN(due_at) AS oldest FROM jobs
WHERE due_at IS NOT NULL GROUP BY step, vendor;

-- name: in_hand
SELECT step, vendor, COUNT(*) AS count FROM jobs
WHERE node IS NOT NULL GROUP BY step, vendor;
