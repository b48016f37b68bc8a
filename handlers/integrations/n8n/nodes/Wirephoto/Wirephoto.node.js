// Hands pictures in, and looks jobs up.
const { randomUUID } = require('crypto');
const { NodeConnectionTypes, NodeOperationError } = require('n8n-workflow');
const { CREDENTIALS, call } = require('../../lib/api');
const options = require('../../lib/options');
const { fieldsOf, paramsOf } = require('../../lib/params');
const { submit } = require('../../lib/submit');
const { properties } = require('./properties');

/**
 * @param {import('../../lib/api').Context} context
 * @param {unknown} operation
 * @param {number} [itemIndex]
 */
const describe = async (context, operation, itemIndex) => {
  // It is part of an address, and users may write it themselves.
  if (!/^\w+\/[\w-]+$/.test(String(operation))) {
    throw new NodeOperationError(context.getNode(), 'An operation is vendor/name, such as vanceai/enlarge3', { itemIndex });
  }
  return (await call(context, 'GET', `/v1/operations/${operation}`, { itemIndex })).body;
};

/**
 * What each picture is named by: links and jobs go into the request, files beside it.
 *
 * @param {import('n8n-workflow').IExecuteFunctions} context
 * @param {number} i
 */
const picturesOf = async (context, i) => {
  /** @type {any[]} */
  const pictures = /** @type {any} */ (context.getNodeParameter('pictures', i, {})).picture ?? [];
  /** @type {Record<string, object>} */
  const inputs = {};
  const files = [];
  for (const { name, source, url, binary, job, asset } of pictures) {
    if (source === 'binary') {
      const { fileName } = context.helpers.assertBinaryData(i, binary);
      files.push({ name, fileName: fileName ?? name, data: await context.helpers.getBinaryDataBuffer(i, binary) });
    } else {
      inputs[name] = { [source]: { url, job, asset }[/** @type {'url'|'job'|'asset'} */ (source)] };
    }
  }
  return { inputs, files };
};

/**
 * The same for each try of the same item in the same run of this node, and for nothing else: when n8n tries again,
 * nothing is paid for twice.
 *
 * @param {import('n8n-workflow').IExecuteFunctions} context
 * @param {number} i
 */
const keyOf = (context, i) => {
  // Without an id of the execution nothing tells one from the next: then each submission is a job of its own.
  const execution = context.getExecutionId() || randomUUID();
  const run = context.evaluateExpression('{{ $runIndex }}', i);
  return ['n8n', context.getWorkflow().id, execution, context.getNode().id, run, i].join('.');
};

/** @type {Record<string, (context: import('n8n-workflow').IExecuteFunctions, i: number) => Promise<any[]>>} */
const ACTIONS = {
  submit: async (context, i) => {
    const operation = await describe(context, context.getNodeParameter('jobOperation', i), i);
    const { inputs, files } = await picturesOf(context, i);
    /** @type {any} */
    const more = context.getNodeParameter('options', i, {});
    const metadata = Object.fromEntries((more.metadata?.pair ?? []).map((/** @type {any} */ { key, value }) => [key, String(value)]));
    const mapped = /** @type {any} */ (context.getNodeParameter('params', i, { value: null })).value;
    const job = {
      operation: operation.id,
      inputs,
      params: paramsOf(operation, mapped),
      metadata,
      ...(more.channels ? { channels: more.channels.split(',').map((/** @type {string} */ name) => name.trim()) } : {}),
      ...(more.webhook ? { webhook: more.webhook } : {}),
    };
    const waitSeconds = context.getNodeParameter('wait', i) ? Number(context.getNodeParameter('waitSeconds', i)) : 0;
    return [await submit(context, i, { job, files, key: more.idempotencyKey || keyOf(context, i), waitSeconds })];
  },
  get: async (context, i) => {
    const id = encodeURIComponent(String(context.getNodeParameter('jobId', i)));
    return [(await call(context, 'GET', `/v1/jobs/${id}`, { itemIndex: i })).body];
  },
  find: async (context, i) => {
    const pairs = /** @type {any} */ (context.getNodeParameter('metadata', i, {})).pair ?? [];
    const qs = Object.fromEntries(pairs.map((/** @type {any} */ { key, value }) => [`metadata.${key}`, String(value)]));
    return (await call(context, 'GET', '/v1/jobs', { qs: { ...qs, limit: context.getNodeParameter('limit', i) }, itemIndex: i })).body.data;
  },
};

/** @typedef {import('n8n-workflow').INodeType} INodeType */

/** @implements {INodeType} */
class Wirephoto {
  /** @type {import('n8n-workflow').INodeTypeDescription} */
  description = {
    displayName: 'Wirephoto',
    name: 'wirephoto',
    icon: 'file:../../icons/wirephoto.svg',
    group: ['transform'],
    version: 1,
    subtitle: '={{$parameter["operation"]}}',
    description: 'Submits image-AI jobs and looks them up',
    defaults: { name: 'Wirephoto' },
    inputs: [NodeConnectionTypes.Main],
    outputs: [NodeConnectionTypes.Main],
    credentials: [{ name: CREDENTIALS, required: true }],
    properties,
  };

  methods = {
    loadOptions: options,
    resourceMapping: {
      /** @this {import('n8n-workflow').ILoadOptionsFunctions} */
      async getParams() {
        const chosen = this.getCurrentNodeParameter('jobOperation');
        return { fields: chosen ? fieldsOf(await describe(this, chosen)) : [] };
      },
    },
  };

  /**
   * @this {import('n8n-workflow').IExecuteFunctions}
   * @returns {Promise<import('n8n-workflow').INodeExecutionData[][]>}
   */
  async execute() {
    /** @type {import('n8n-workflow').INodeExecutionData[]} */
    const made = [];
    for (let i = 0; i < this.getInputData().length; i += 1) {
      try {
        const found = await ACTIONS[String(this.getNodeParameter('operation', i))](this, i);
        made.push(...found.map((json) => ({ json, pairedItem: { item: i } })));
      } catch (error) {
        if (!this.continueOnFail()) throw error;
        const { message, description } = /** @type {any} */ (error);
        made.push({ json: { error: message, ...(description ? { description } : {}) }, pairedItem: { item: i } });
      }
    }
    return [made];
  }
}

module.exports = { Wirephoto };
