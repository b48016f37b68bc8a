-- name: add
INSERT INTO deliveries (public_id, project_id, event_id, endpoint_id, state, node, created_at, held_at, head)
VALUES (:public_id, :project, :event, :endpoint, :state, :node, :now, :held_at, :head);

-- What this node has to send; what is queued is nobody's.
-- name: added
SELECT id, endpoint_id FROM deliveries WHERE event_id = :event AND state = 'pending' AND node = :node ORDER BY id;

-- As in jobs.sql.
-- name: claim
UPDATE deliveries SET node = :node, due_at = NULL, retry_at = NULL
WHERE id IN (
    SELECT id FROM deliveries WHERE due_at IS NOT NULL AND due_at <= :now
    ORDER BY due_at, id LIMIT :limit /*postgres FOR UPDATE SKIP LOCKED */
)
RETURNING id, endpoint_id, event_id, attempts, round_from, replay;

-- What is queued for an endpoint, live before replayed, the oldest event first.
-- name: claim_queued
UPDATE deliveries SET node = :node
WHERE id IN (
    SELECT id FROM deliveries
    WHERE endpoint_id = :endpoint AND state = 'pending' AND due_at IS NULL AND node IS NULL
    ORDER BY endpoint_id, (replay IS NOT NULL), event_id LIMIT :limit /*postgres FOR UPDATE SKIP LOCKED */
)
RETURNING id, public_id, endpoint_id, event_id, attempts, round_from, replay;

-- Back into the queue of its endpoint, untried.
-- name: requeue
UPDATE deliveries SET node = NULL, due_at = NULL, retry_at = NULL
WHERE id = :delivery AND node = :node AND state IN ('pending', 'held');

-- Whether something that was taken out of an endpoint's queue is not settled yet.
-- name: unsettled
SELECT id FROM deliveries
WHERE endpoint_id = :endpoint AND state = 'pending' AND (due_at IS NOT NULL OR node IS NOT NULL) LIMIT 1;

-- name: next_due
SELECT MIN(due_at) AS due_at FROM deliveries WHERE due_at IS NOT NULL;

-- A delivery that was held while its attempt was under way still counts as what that attempt came to. One that was paused
-- and resumed meanwhile may have two attempts under way: the first that ends counts, and the other finds its number taken.
-- name: settle
UPDATE deliveries SET state = :state, attempts = :attempts, retry_at = NULL, due_at = NULL, node = NULL,
    held_at = CASE WHEN CAST(:state AS TEXT) = 'held' THEN COALESCE(held_at, CAST(:now AS BIGINT)) END,
    finished_at = CASE WHEN CAST(:state AS TEXT) <> 'held' THEN CAST(:now AS BIGINT) END
WHERE id = :delivery AND node = :node AND attempts < :attempts AND state IN ('pending', 'held')
RETURNING id, endpoint_id, head;

-- SQLite's one writer has them anyway.
-- name: lock
SELECT id FROM deliveries WHERE id IN (
    :row_0, :row_1, :row_2, :row_3, :row_4, :row_5, :row_6, :row_7,
    :row_8, :row_9, :row_10, :row_11, :row_12, :row_13, :row_14, :row_15
) ORDER BY id /*postgres FOR NO KEY UPDATE */;

-- name: in_hand
SELECT id FROM deliveries WHERE node = :node AND state = 'pending' AND id IN (
    :row_0, :row_1, :row_2, :row_3, :row_4, :row_5, :row_6, :row_7,
    :row_8, :row_9, :row_10, :row_11, :row_12, :row_13, :row_14, :row_15
);

-- The common case of settle, for many at once. What its receiver has taken is delivered, also where its endpoint was
-- paused and resumed meanwhile, so that it is nobody's; unless another attempt was made since.
-- name: delivered
UPDATE deliveries SET state = 'delivered', attempts = :attempts, retry_at = NULL, due_at = NULL, node = NULL,
    finished_at = :now
WHERE (node = :node OR node IS NULL) AND attempts < :attempts AND state IN ('pending', 'held') AND id IN (
    :row_0, :row_1, :row_2, :row_3, :row_4, :row_5, :row_6, :row_7,
    :row_8, :row_9, :row_10, :row_11, :row_12, :row_13, :row_14, :row_15
)
RETURNING id, endpoint_id, head;

-- name: retry
UPDATE deliveries SET attempts = :attempts, node = NULL,
    retry_at = CASE WHEN state = 'pending' THEN CAST(:retry_at AS BIGINT) END,
    due_at = CASE WHEN state = 'pending' THEN CAST(:retry_at AS BIGINT) END
WHERE id = :delivery AND node = :node AND attempts < :attempts AND state IN ('pending', 'held');

-- name: hold
UPDATE deliveries SET state = 'held', held_at = :now, due_at = NULL, retry_at = NULL
WHERE endpoint_id = :endpoint AND state = 'pending' AND finished_at IS NULL;

-- What was held flows again, or is put in line. An attempt that is just under way may be made twice, under the same
-- webhook-id.
-- name: unhold
UPDATE deliveries SET state = 'pending', held_at = NULL, node = NULL, head = NULL, due_at = CAST(:due_at AS BIGINT)
WHERE endpoint_id = :endpoint AND state = 'held' AND finished_at IS NULL;

-- name: discard
UPDATE deliveries SET state = 'discarded', due_at = NULL, retry_at = NULL, node = NULL, finished_at = :now
WHERE endpoint_id = :endpoint AND state IN ('pending', 'held') AND finished_at IS NULL;

-- Whatever has come of it, once more: its schedule begins anew, the numbers of its attempts go on. What is on its way
-- stays as it is, and so does what is held for an endpoint that still takes nothing.
-- name: reopen
UPDATE deliveries SET state = :state, round_from = attempts, reopened_at = :now, replay = CAST(:replay AS BIGINT),
    delivered_at = COALESCE(delivered_at, CASE WHEN state = 'delivered' THEN finished_at END),
    finished_at = NULL, held_at = CAST(:held_at AS BIGINT), node = NULL, head = NULL, chosen_at = NULL,
    due_at = CAST(:due_at AS BIGINT), retry_at = CAST(:due_at AS BIGINT)
WHERE id = :delivery AND state NOT IN ('pending', 'discarded') AND (state <> 'held' OR CAST(:state AS TEXT) <> 'held');

-- Somebody wants this very one, whatever state it is in.
-- name: choose
UPDATE deliveries SET chosen_at = :now WHERE id = :delivery;

-- What waits for its next attempt, now. What is in somebody's hands, or waits in a queue, has its turn anyway.
-- name: hurry
UPDATE deliveries SET due_at = :now, retry_at = :now
WHERE id = :delivery AND state = 'pending' AND due_at IS NOT NULL AND due_at > :now;

-- An event that was never owed to this endpoint, unless it is gone by now: on PostgreSQL its lock is waited for.
-- name: owe
INSERT INTO deliveries (
    public_id, project_id, event_id, endpoint_id, state, created_at, held_at, due_at, retry_at, replay
)
SELECT CAST(:public_id AS TEXT), project_id, id, CAST(:endpoint AS BIGINT), CAST(:state AS TEXT),
    CAST(:now AS BIGINT), CAST(:held_at AS BIGINT), CAST(:due_at AS BIGINT), CAST(:due_at AS BIGINT),
    CAST(:replay AS BIGINT)
FROM events WHERE id = :event /*postgres FOR KEY SHARE */
ON CONFLICT (event_id, endpoint_id) DO NOTHING;

-- name: let_go
UPDATE deliveries SET node = NULL, due_at = CASE WHEN state = 'pending' THEN CAST(:due_at AS BIGINT) END
WHERE id = :delivery AND node = :node;

-- name: add_attempt
INSERT INTO attempts (public_id, delivery_id, number, started_at, ms, outcome, status, error, response_head)
VALUES (:public_id, :delivery, :number, :started_at, :ms, :outcome, :status, :error, :response_head);

-- Only the newest are looked at: it is asked soon after a start, of an endpoint with a rate.
-- name: begun_since
SELECT started_at FROM attempts JOIN deliveries ON deliveries.id = attempts.delivery_id
WHERE attempts.id > (SELECT MAX(id) FROM attempts) - :look AND started_at > :since AND endpoint_id = :endpoint
ORDER BY started_at;

-- name: attempts
SELECT public_id, number, started_at, ms, outcome, status, error, response_head
FROM attempts WHERE delivery_id = :delivery ORDER BY number;

-- name: get
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
WHERE deliveries.public_id = :public_id AND deliveries.project_id = :project;

-- name: by_row
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
WHERE deliveries.id = :delivery;

-- name: list
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
WHERE deliveries.project_id = :project AND deliveries.id < :before
  AND (CAST(:state AS TEXT) IS NULL OR deliveries.state = :state)
ORDER BY deliveries.id DESC LIMIT :limit;

-- A deleted endpoint's too.
-- name: list_of_endpoint
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
WHERE deliveries.endpoint_id = (
    SELECT id FROM endpoints WHERE public_id = :endpoint AND project_id = :project
) AND deliveries.id < :before
  AND (CAST(:state AS TEXT) IS NULL OR deliveries.state = :state)
ORDER BY deliveries.id DESC LIMIT :limit;

-- name: list_of_event
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
WHERE deliveries.event_id = (
    SELECT id FROM events WHERE public_id = :event AND project_id = :project
) AND deliveries.id < :before
  AND (CAST(:endpoint AS TEXT) IS NULL OR endpoints.public_id = :endpoint)
  AND (CAST(:state AS TEXT) IS NULL OR deliveries.state = :state)
ORDER BY deliveries.id DESC LIMIT :limit;

-- name: of_event
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
WHERE deliveries.event_id = :event ORDER BY deliveries.id;

-- With the last attempt of each.
-- name: ledger
SELECT deliveries.*, events.public_id AS event_public_id, events.type AS event_type,
    endpoints.public_id AS endpoint_public_id, endpoints.state AS endpoint_state,
    attempts.public_id AS attempt_public_id, attempts.number, attempts.started_at, attempts.ms, attempts.outcome,
    attempts.status, attempts.error, attempts.response_head
FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN endpoints ON endpoints.id = deliveries.endpoint_id
LEFT JOIN attempts ON attempts.delivery_id = deliveries.id AND attempts.number = deliveries.attempts
WHERE deliveries.event_id = :event ORDER BY deliveries.id;

-- Whoever has it in hand: an attempt takes seconds, and what is expired here was held for the whole time of retention.
-- name: expire
UPDATE deliveries SET state = 'expired', finished_at = :now, due_at = NULL, retry_at = NULL, node = NULL
WHERE state = 'held' AND COALESCE(held_at, created_at) <= :before AND id IN (
    SELECT id FROM deliveries WHERE state = 'held' AND COALESCE(held_at, created_at) <= :before
    ORDER BY COALESCE(held_at, created_at) LIMIT :limit
);

-- The deliveries of an event that may go, none where one of them may not. What is asked of all is asked of each row
-- once more: on PostgreSQL it may have been opened again while we waited for its lock.
-- name: trim
DELETE FROM deliveries
WHERE id IN (SELECT id FROM deliveries WHERE event_id = :event ORDER BY id LIMIT :limit)
  AND finished_at <= :before AND state NOT IN ('pending', 'held')
  AND NOT EXISTS (
    SELECT 1 FROM deliveries AS other
    WHERE other.event_id = :event
      AND (other.finished_at IS NULL OR other.finished_at > :before OR other.state IN ('pending', 'held'))
  );

-- name: backlog_waiting
SELECT COUNT(*) AS count, MIN(due_at) AS next_due FROM deliveries WHERE due_at IS NOT NULL;

-- name: backlog_in_hand
SELECT COUNT(*) AS count, MIN(id) AS oldest FROM deliveries WHERE node IS NOT NULL;

-- name: backlog_queued
SELECT COUNT(*) AS count FROM deliveries WHERE state = 'pending' AND due_at IS NULL AND node IS NULL;

-- name: backlog_held
SELECT COUNT(*) AS count, MIN(COALESCE(held_at, created_at)) AS since FROM deliveries WHERE state = 'held';

-- name: made_at
SELECT created_at FROM deliveries WHERE id = :delivery;
