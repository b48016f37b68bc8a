// Starts a workflow with each event: subscribes when it is activated, believes nothing that is not signed.
const { NodeConnectionTypes } = require('n8n-workflow');
const { CREDENTIALS, call } = require('../../lib/api');
const { isSigned } = require('../../lib/signature');

// After a rotation the new secret is asked for; anybody may send wrong signatures, so that not more often than this.
const ASK_AGAIN_SECONDS = 60;
const TEST_MESSAGE = 'endpoint.test';

const seconds = () => Math.floor(Date.now() / 1000);

/** @param {import('n8n-workflow').IHookFunctions} context */
const wanted = (context) => ({
  hookUrl: context.getNodeWebhookUrl('default'),
  events: /** @type {string[]} */ (context.getNodeParameter('events')),
  format: context.getNodeParameter('format'),
  filter: context.getNodeParameter('operation', '') ? { 'data.operation': context.getNodeParameter('operation') } : {},
});

/**
 * @param {any} hook
 * @param {ReturnType<typeof wanted>} now
 */
const isTheSame = (hook, now) =>
  hook.state !== 'disabled' &&
  hook.hookUrl === now.hookUrl &&
  hook.format === now.format &&
  JSON.stringify([...hook.events].sort()) === JSON.stringify([...now.events].sort()) &&
  JSON.stringify(hook.filter) === JSON.stringify(now.filter);

/**
 * @param {import('n8n-workflow').IHookFunctions | import('n8n-workflow').IWebhookFunctions} context
 * @param {import('n8n-workflow').IDataObject} kept
 */
const keepSecret = async (context, kept) => {
  kept.askedAt = seconds();
  const { body } = await call(context, 'GET', `/v1/endpoints/${kept.hookId}/secret`);
  kept.secret = body.secret;
};

/**
 * @param {import('n8n-workflow').IWebhookFunctions} context
 * @param {Buffer} rawBody
 */
const isOurs = async (context, rawBody) => {
  const kept = context.getWorkflowStaticData('node');
  const fits = () => isSigned(String(kept.secret ?? ''), context.getHeaderData(), rawBody, seconds());
  if (!kept.hookId) return false;
  if (kept.secret && fits()) return true;
  if (seconds() - Number(kept.askedAt ?? 0) < ASK_AGAIN_SECONDS) return false;
  await keepSecret(context, kept);
  return fits();
};

/** @typedef {import('n8n-workflow').INodeType} INodeType */

/** @implements {INodeType} */
class WirephotoTrigger {
  /** @type {import('n8n-workflow').INodeTypeDescription} */
  description = {
    displayName: 'Wirephoto Trigger',
    name: 'wirephotoTrigger',
    icon: 'file:../../icons/wirephoto.svg',
    group: ['trigger'],
    version: 1,
    subtitle: '={{$parameter["events"].join(", ")}}',
    description: 'Starts the workflow when a job has its finished picture, has failed, or when anything else happens',
    defaults: { name: 'Wirephoto Trigger' },
    inputs: [],
    outputs: [NodeConnectionTypes.Main],
    credentials: [{ name: CREDENTIALS, required: true }],
    webhooks: [{ name: 'default', httpMethod: 'POST', responseMode: 'onReceived', path: 'webhook' }],
    properties: [
      {
        displayName: 'Event Names or IDs',
        name: 'events',
        type: 'multiOptions',
        typeOptions: { loadOptionsMethod: 'getEventTypes' },
        default: ['job.succeeded', 'job.failed'],
        required: true,
        description: 'Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>',
      },
      {
        displayName: 'Operation Name or ID',
        name: 'operation',
        type: 'options',
        typeOptions: { loadOptionsMethod: 'getOperations' },
        default: '',
        description: 'Only jobs of this operation; left empty, all. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
      },
      {
        displayName: 'Format',
        name: 'format',
        type: 'options',
        options: [
          { name: 'Flat', value: 'flat', description: 'One level, with the picture as image_url' },
          { name: 'Standard', value: 'standard', description: 'The event as it stands in the log, with the job as data' },
        ],
        default: 'flat',
      },
    ],
  };

  methods = { loadOptions: require('../../lib/options') };

  webhookMethods = {
    default: {
      /** @this {import('n8n-workflow').IHookFunctions} */
      async checkExists() {
        const kept = this.getWorkflowStaticData('node');
        if (!kept.hookId) return false;
        const { status, body } = await call(this, 'GET', `/v1/hooks/${kept.hookId}`, { accept: [404] });
        if (status !== 404 && isTheSame(body, wanted(this))) return true;
        // What was subscribed to under another address, or to other events, must not go on beside the new one.
        if (status !== 404 && body.state !== 'disabled') await call(this, 'DELETE', `/v1/hooks/${kept.hookId}`);
        delete kept.hookId;
        delete kept.secret;
        return false;
      },

      /** @this {import('n8n-workflow').IHookFunctions} */
      async create() {
        const kept = this.getWorkflowStaticData('node');
        const { body } = await call(this, 'POST', '/v1/hooks', { body: wanted(this) });
        kept.hookId = body.id;
        await keepSecret(this, kept);
        return true;
      },

      /** @this {import('n8n-workflow').IHookFunctions} */
      async delete() {
        const kept = this.getWorkflowStaticData('node');
        if (kept.hookId) await call(this, 'DELETE', `/v1/hooks/${kept.hookId}`);
        delete kept.hookId;
        delete kept.secret;
        return true;
      },
    },
  };

  /**
   * @this {import('n8n-workflow').IWebhookFunctions}
   * @returns {Promise<import('n8n-workflow').IWebhookResponseData>}
   */
  async webhook() {
    /** @type {any} */
    const request = this.getRequestObject();
    // Newer versions of n8n read the bytes only where they are asked for.
    if (!request.rawBody && request.readRawBody) await request.readRawBody();
    /** @type {Buffer} */
    const rawBody = request.rawBody ?? Buffer.alloc(0);
    if (!(await isOurs(this, rawBody))) {
      this.getResponseObject().status(401).send('The signature does not fit.').end();
      return { noWebhookResponse: true };
    }
    const event = JSON.parse(rawBody.toString('utf8'));
    // Sent on request, to see whether this is reached: no event that a workflow waits for.
    if (event.type === TEST_MESSAGE) return { webhookResponse: 'It arrives.' };
    return { workflowData: [this.helpers.returnJsonArray(event)] };
  }
}

module.exports = { WirephotoTrigger };
