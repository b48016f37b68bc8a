// One call of Wirephoto's API, and what went wrong with it in words that a Zap's owner can act upon.

const RETRIED = new Set([429, 503]);

const baseUrl = (z, bundle) => {
  const given = String(bundle.authData.base_url ?? '').trim();
  let url;
  try {
    url = new URL(given);
  } catch {
    throw new z.errors.Error(`"${given}" is no address. It looks like https://photos.example.com.`, 'AuthenticationError');
  }
  if (!['http:', 'https:'].includes(url.protocol)) {
    throw new z.errors.Error('The address must begin with https:// or http://.', 'AuthenticationError');
  }
  return `${url.origin}${url.pathname}`.replace(/(\/v1)?\/*$/, '');
};

// Every faulty field with its reason: the sentence above them would only repeat their names.
const told = (problem) =>
  (problem.errors ?? []).map(({ field, reason }) => `${field}: ${reason}`).join('; ') || problem.detail || problem.title;

const refusal = (z, response) => {
  let problem = {};
  try {
    problem = JSON.parse(response.content);
  } catch {
    // Not ours: a proxy in between.
  }
  const message = told(problem) || `The server at this address answered ${response.status}; is it a Wirephoto?`;
  if (RETRIED.has(response.status)) {
    return new z.errors.ThrottledError(message, Number.parseInt(response.headers.get('retry-after'), 10) || 60);
  }
  if (response.status === 401) {
    return new z.errors.Error('Wirephoto does not know this API key. Connect the account again.', 'AuthenticationError', 401);
  }
  return new z.errors.Error(message, String(problem.type ?? 'http').split(':').pop(), response.status);
};

/**
 * The answer's JSON, or null where there is none. Throws one of Zapier's own errors, readable.
 * `options`: what `z.request` takes, such as `params`, `body` and `headers`.
 */
const call = async (z, bundle, method, path, options = {}) => {
  const url = baseUrl(z, bundle) + path;
  const headers = { Accept: 'application/json', ...options.headers, Authorization: `Bearer ${bundle.authData.api_key}` };
  let response;
  try {
    // Refusals are told by `refusal`, which knows our problems; Zapier's own words would hide the faulty fields.
    response = await z.request({
      ...options, method, url, headers, skipThrowForStatus: true, throwForThrottlingEarly: false, redirect: 'manual',
    });
  } catch (error) {
    throw new z.errors.Error(`No Wirephoto can be reached at ${baseUrl(z, bundle)}: ${error.message}`, 'unreachable');
  }
  if (response.status >= 300) throw refusal(z, response);
  return response.content ? response.data : null;
};

module.exports = { baseUrl, call };
