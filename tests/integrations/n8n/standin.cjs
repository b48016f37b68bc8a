// Stands in for n8n where it runs a node: finds the classes as n8n's loader does, and gives them what its interfaces
// promise. Parameters, their defaults and all expressions are resolved by n8n's own code; only HTTP and storage are ours.
const path = require('node:path');
const { NodeHelpers, Workflow } = require('n8n-workflow');

const PACKAGE = path.resolve(__dirname, '../../../handlers/integrations/n8n');
const manifest = require(path.join(PACKAGE, 'package.json'));

const load = (file) => {
  const name = path.basename(file).split('.')[0];
  const Loaded = require(path.join(PACKAGE, file))[name];
  return [name, new Loaded()];
};
const nodes = Object.fromEntries(manifest.n8n.nodes.map(load));
const credentialTypes = Object.fromEntries(manifest.n8n.credentials.map(load));

const account = { baseUrl: process.env.WIREPHOTO_URL, apiKey: process.env.WIREPHOTO_KEY };

const nodeTypes = { getByNameAndVersion: (name) => Object.values(nodes).find((node) => node.description.name === name) };

/** One workflow with one node of ours in it. */
const context = (type, parameters, { credentials = account, webhookUrl, execution = '1', runIndex = 0, items = [{ json: {} }] } = {}) => {
  const { description } = nodes[type];
  const node = { id: `id-of-${type}`, name: description.displayName, type: description.name, typeVersion: 1, position: [0, 0], parameters };
  const workflow = new Workflow({ id: 'workflow-1', nodes: [node], connections: {}, active: true, nodeTypes });
  const given = NodeHelpers.getNodeParameters(description.properties, parameters, true, false, node, description);
  const resolved = (value, more) => workflow.expression.getSimpleParameterValue(node, value, 'internal', more, undefined, undefined);
  const staticData = {};
  const answer = { code: undefined, sent: undefined };

  const httpRequest = async ({ method, url, qs, headers, body, json, returnFullResponse, ignoreHttpStatusErrors, disableFollowRedirect }) => {
    const asked = new URL(url);
    for (const [key, value] of Object.entries(qs ?? {})) asked.searchParams.set(key, String(value));
    const plain = body !== undefined && !Buffer.isBuffer(body);
    const response = await fetch(asked, {
      method,
      headers: { ...(plain && json ? { 'Content-Type': 'application/json' } : {}), ...headers },
      body: plain ? JSON.stringify(body) : body,
      redirect: disableFollowRedirect ? 'manual' : 'follow',
    });
    const text = await response.text();
    let read = text;
    try { read = JSON.parse(text); } catch { /* as n8n's client: what is no JSON stays text */ }
    if (!response.ok && !ignoreHttpStatusErrors) throw Object.assign(new Error(`Request failed with status code ${response.status}`), { httpCode: String(response.status) });
    return returnFullResponse ? { statusCode: response.status, headers: Object.fromEntries(response.headers), body: read } : read;
  };

  return {
    answer,
    staticData,
    given,
    logger: console,
    getNode: () => node,
    getWorkflow: () => ({ id: workflow.id, name: 'a workflow', active: true }),
    getExecutionId: () => execution,
    getMode: () => 'trigger',
    getWorkflowStaticData: () => staticData,
    getNodeWebhookUrl: () => webhookUrl,
    getCredentials: async () => credentials,
    getCurrentNodeParameter: (name) => given[name],
    // `execute` names the item first, all others only what to fall back to.
    getNodeParameter: (name, second, third) => given[name] ?? (typeof second === 'number' ? third : second),
    evaluateExpression: (text) => resolved(`=${text}`, { $runIndex: runIndex }),
    getInputData: () => items,
    continueOnFail: () => Boolean(parameters.continueOnFail),
    helpers: {
      httpRequest,
      // What n8n does with the credential's own description of how to authenticate.
      httpRequestWithAuthentication: async (name, request) => {
        const { authenticate } = Object.values(credentialTypes).find((known) => known.name === name);
        const added = Object.entries(authenticate.properties.headers).map(([key, value]) => [key, resolved(value, { $credentials: credentials })]);
        return httpRequest({ ...request, headers: { ...request.headers, ...Object.fromEntries(added) } });
      },
      assertBinaryData: (i, field) => {
        const found = items[i].binary?.[field];
        if (!found) throw new Error(`This operation expects the node's input data to contain a binary file '${field}'`);
        return found;
      },
      getBinaryDataBuffer: async (i, field) => Buffer.from(items[i].binary[field].data, 'base64'),
      returnJsonArray: (data) => [data].flat().map((json) => ({ json })),
    },
    resolved,
  };
};

/** n8n's web server hands a delivery to the node. */
const delivered = (type, made, { headers, rawBody }) => {
  Object.assign(made, {
    getHeaderData: () => headers,
    getBodyData: () => JSON.parse(rawBody),
    getRequestObject: () => ({ headers, rawBody }),
    getResponseObject: () => ({
      status(code) { made.answer.code = code; return this; },
      send(text) { made.answer.sent = text; return this; },
      end() { return this; },
    }),
  });
  made.answer.code = undefined;
  return nodes[type].webhook.call(made);
};

const execute = async (parameters, how) => {
  const [items] = await nodes.Wirephoto.execute.call(context('Wirephoto', parameters, how));
  return items.map(({ json }) => json);
};

/** The service, as anybody may ask it. */
const api = async (method, where, body) => {
  const response = await fetch(account.baseUrl + where, {
    method, body: body && JSON.stringify(body),
    headers: { Authorization: `Bearer ${account.apiKey}`, ...(body ? { 'Content-Type': 'application/json' } : {}) },
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
};

module.exports = { account, api, context, credentialTypes, delivered, execute, manifest, nodes, PACKAGE };
