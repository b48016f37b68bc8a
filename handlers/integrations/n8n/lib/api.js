// One call of Wirephoto's API from a node, and a refusal in words that a workflow's owner can act upon.
const { NodeApiError } = require('n8n-workflow');

const CREDENTIALS = 'wirephotoApi';

/**
 * @typedef {import('n8n-workflow').IHookFunctions | import('n8n-workflow').IWebhookFunctions
 *   | import('n8n-workflow').ILoadOptionsFunctions | import('n8n-workflow').IExecuteFunctions} Context
 * @typedef {{ body?: object | Buffer, headers?: Record<string, string>, qs?: Record<string, any>, accept?: number[],
 *   itemIndex?: number }} Options  `accept`: refusals that are answers to the caller
 */

/** @param {any} problem  Every faulty field with its reason. */
const told = (problem) =>
  (problem?.errors ?? [])
    .map((/** @type {{ field: string, reason: string }} */ { field, reason }) => `${field}: ${reason}`)
    .join('\n');

/** @param {any} body */
const parsed = (body) => {
  if (typeof body !== 'string' && !Buffer.isBuffer(body)) return body;
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined; // not ours: a proxy in between
  }
};

/**
 * The status and the answer's JSON. Throws NodeApiError for every refusal that is not in `accept`.
 *
 * @param {Context} context
 * @param {import('n8n-workflow').IHttpRequestMethods} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<{ status: number, body: any }>}
 */
const call = async (context, method, path, { accept = [], itemIndex, ...options } = {}) => {
  const { baseUrl } = await context.getCredentials(CREDENTIALS);
  const request = {
    ...options,
    method,
    url: String(baseUrl).replace(/\/+$/, '') + path,
    headers: { Accept: 'application/json', ...options.headers },
    // Our own words for a refusal name each faulty field; n8n's would hide them.
    ignoreHttpStatusErrors: true,
    returnFullResponse: true,
    json: !Buffer.isBuffer(options.body),
    // A key is never taken along to another address.
    disableFollowRedirect: true,
  };
  const answer = await context.helpers.httpRequestWithAuthentication.call(context, CREDENTIALS, request);
  const status = answer.statusCode, body = parsed(answer.body);
  if (status < 300 || accept.includes(status)) return { status, body };
  throw new NodeApiError(context.getNode(), body ?? {}, {
    message: body?.detail ?? `The server at this address answered ${status}; is it a Wirephoto?`,
    description: told(body) || undefined,
    httpCode: String(status),
    itemIndex,
  });
};

module.exports = { CREDENTIALS, call };
