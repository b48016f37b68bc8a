-- name: page_of_secrets
SELECT id AS key, secret AS text FROM endpoints WHERE id > :beyond ORDER BY id LIMIT :limit;

-- name: change_secret
UPDATE endpoints SET secret = :anew WHERE id = :key AND secret = :was;

-- name: page_of_old_secrets
SELECT id AS key, old_secrets AS text FROM endpoints
WHERE old_secrets_until IS NOT NULL AND old_secrets IS NOT NULL AND id > :beyond
ORDER BY id LIMIT :limit;

-- name: change_old_secret
UPDATE endpoints SET old_secrets = :anew WHERE id = :key AND old_secrets = :was;

-- name: page_of_headers
SELECT id AS key, headers AS text FROM endpoints WHERE id > :beyond ORDER BY id LIMIT :limit;

-- name: change_headers
UPDATE endpoints SET headers = :anew WHERE id = :key AND headers = :was;

-- There are few shops among the endpoints, and a page reads on to its end.
-- name: page_of_configs
SELECT id AS key, config AS text FROM endpoints WHERE config IS NOT NULL AND id > :beyond ORDER BY id LIMIT :limit;

-- name: change_config
UPDATE endpoints SET config = :anew WHERE id = :key AND config = :was;

-- name: page_of_webhook_secrets
SELECT id AS key, webhook_secret AS text FROM projects WHERE id > :beyond ORDER BY id LIMIT :limit;

-- name: change_webhook_secret
UPDATE projects SET webhook_secret = :anew WHERE id = :key AND webhook_secret = :was;

-- name: page_of_signing_keys
SELECT id AS key, private_key AS text FROM signing_keys
WHERE private_key IS NOT NULL AND id > :beyond ORDER BY id LIMIT :limit;

-- name: change_signing_key
UPDATE signing_keys SET private_key = :anew WHERE id = :key AND private_key = :was;

-- Neither a vendor's name nor an account's holds a space. There are a handful of rows.
-- name: page_of_memory
SELECT key, text FROM (
    SELECT vendor || ' ' || account || ' ' || name AS key, sealed AS text FROM vendor_memory WHERE sealed IS NOT NULL
) AS kept
WHERE key > CAST(:beyond AS TEXT) ORDER BY key LIMIT :limit;

-- name: change_memory
UPDATE vendor_memory SET sealed = :anew
WHERE vendor || ' ' || account || ' ' || name = CAST(:key AS TEXT) AND sealed = :was;
