// A job handed in: JSON, or one multipart form with the pictures that an earlier node has; then, perhaps, its end.
const { randomUUID } = require('crypto');
const { NodeOperationError, sleep } = require('n8n-workflow');
const { call } = require('./api');

// Longer than that a connection is not held: proxies in between cut it. Afterwards the job is asked for.
const LONGEST_HOLD = 30;
const SLOWEST_ASK = 10;

/** @typedef {{ name: string, data: Buffer, fileName: string }} File */

/**
 * One body of bytes: it goes through n8n's own client unchanged, and needs no package.
 *
 * @param {object} job
 * @param {File[]} files
 */
const multipart = (job, files) => {
  const boundary = `wirephoto-${randomUUID()}`;
  const part = (/** @type {string} */ head, /** @type {Buffer} */ data) => [
    Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n`), data, Buffer.from('\r\n'),
  ];
  const quoted = (/** @type {string} */ name) => name.replace(/["\r\n]/g, '_');
  const parts = [
    ...part('name="job"\r\nContent-Type: application/json', Buffer.from(JSON.stringify(job))),
    ...files.flatMap(({ name, fileName, data }) =>
      part(`name="${name}"; filename="${quoted(fileName)}"\r\nContent-Type: application/octet-stream`, data)),
  ];
  return {
    body: Buffer.concat([...parts, Buffer.from(`--${boundary}--\r\n`)]),
    headers: { 'Content-Type': `multipart/form-data; boundary=${boundary}` },
  };
};

/**
 * @param {import('n8n-workflow').IExecuteFunctions} context
 * @param {number} itemIndex
 * @param {{ job: object, files: File[], key: string, waitSeconds: number }} wanted  `waitSeconds`: 0 to wait for nothing
 */
const submit = async (context, itemIndex, { job, files, key, waitSeconds }) => {
  const until = Date.now() + waitSeconds * 1000;
  const { body, headers } = files.length ? multipart(job, files) : { body: job, headers: {} };
  const hold = Math.min(LONGEST_HOLD, Math.ceil(waitSeconds / 2));
  const asked = { 'Idempotency-Key': key, ...(waitSeconds ? { Prefer: `wait=${hold}` } : {}) };
  let { body: made } = await call(context, 'POST', '/v1/jobs', { body, headers: { ...headers, ...asked }, itemIndex });
  for (let pause = 1; waitSeconds && made.finished_at === null; pause = Math.min(pause * 2, SLOWEST_ASK)) {
    if (Date.now() >= until) {
      throw new NodeOperationError(context.getNode(), `Job ${made.id} has not ended within ${waitSeconds} seconds`, {
        description: 'It goes on by itself. Wait longer, or let the Wirephoto Trigger tell of its end.',
        itemIndex,
      });
    }
    await sleep(pause * 1000);
    ({ body: made } = await call(context, 'GET', `/v1/jobs/${made.id}`, { itemIndex }));
  }
  return made;
};

module.exports = { submit };
