// Hands a picture in. What can be filled in depends on the operation that is chosen.
const FormData = require('form-data');

const { fieldsOf, paramsOf } = require('../lib/fields');
const { JOB_FIELDS, JOB_SAMPLE, shownJob } = require('../lib/shapes');
const { call } = require('../lib/wirephoto');

// Zapier gives a step 30 seconds.
const LONGEST_WAIT = 20;
const JOB_EVENTS = ['job.queued', 'job.submitted', 'job.progressed', 'job.succeeded', 'job.failed', 'job.canceled'];
const JSON_TYPE = 'application/json';

const chosen = (z, bundle) => {
  const { operation } = bundle.inputData;
  // It is part of an address, and users may write it themselves.
  if (!/^\w+\/[\w-]+$/.test(operation)) {
    throw new z.errors.Error('operation: must be vendor/name, such as vanceai/enlarge3', 'invalid_request', 422);
  }
  return call(z, bundle, 'GET', `/v1/operations/${operation}`);
};

const operationFields = async (z, bundle) => (bundle.inputData.operation ? fieldsOf(await chosen(z, bundle)) : []);

// The sources that were filled in for one input; more than one is a mistake that nobody should have to guess.
const sourceOf = (z, name, inputData) => {
  const given = ['url', 'file', 'job'].filter((kind) => inputData[`input_${name}_${kind}`]);
  if (given.length > 1) {
    throw new z.errors.Error(`inputs.${name}: fill in one of ${given.join(' and ')}, not both`, 'invalid_request');
  }
  return given.map((kind) => ({ name, kind, value: inputData[`input_${name}_${kind}`] }));
};

const download = async (z, { name, value }) => {
  const response = await z.request({ url: value, raw: true, skipThrowForStatus: true });
  if (response.status !== 200) {
    throw new z.errors.Error(`inputs.${name}: the file could not be read, its address answered ${response.status}`, 'invalid_request');
  }
  return response.buffer();
};

const jobOf = (z, operation, sources, inputData) => ({
  operation: operation.id,
  inputs: Object.fromEntries(
    sources.filter(({ kind }) => kind !== 'file').map(({ name, kind, value }) => [name, { [kind]: value }]),
  ),
  params: paramsOf(z, operation, inputData),
  ...(inputData.metadata ? { metadata: inputData.metadata } : {}),
  ...(inputData.channels ? { channels: inputData.channels } : {}),
  ...(inputData.webhook ? { webhook: inputData.webhook } : {}),
  ...(inputData.webhook_events ? { webhook_events: inputData.webhook_events } : {}),
});

// Files go with the job in one form, so that the same key with the same file is the same job.
const bodyOf = async (z, job, files) => {
  if (!files.length) return { body: JSON.stringify(job), headers: { 'Content-Type': JSON_TYPE } };
  const form = new FormData();
  form.append('job', JSON.stringify(job), { contentType: JSON_TYPE });
  for (const file of files) {
    form.append(file.name, await download(z, file), { filename: file.name, contentType: 'application/octet-stream' });
  }
  return { body: form, headers: form.getHeaders() };
};

const perform = async (z, bundle) => {
  const { inputData } = bundle;
  const operation = await chosen(z, bundle);
  const sources = operation.inputs.flatMap(({ name }) => sourceOf(z, name, inputData));
  const files = sources.filter(({ kind }) => kind === 'file');
  const { body, headers } = await bodyOf(z, jobOf(z, operation, sources, inputData), files);
  const asked = {
    ...(inputData.idempotency_key ? { 'Idempotency-Key': inputData.idempotency_key } : {}),
    ...(inputData.wait ? { Prefer: `wait=${LONGEST_WAIT}` } : {}),
  };
  return shownJob(await call(z, bundle, 'POST', '/v1/jobs', { body, headers: { ...headers, ...asked } }));
};

module.exports = {
  key: 'submit_job',
  noun: 'Job',
  display: {
    label: 'Submit Job',
    description: 'Creates a job: hands a picture to one of your vendors, which is paid for it.',
  },
  operation: {
    perform,
    inputFields: [
      {
        key: 'operation',
        label: 'Operation',
        type: 'string',
        required: true,
        dynamic: 'operation.id.label',
        altersDynamicFields: true,
        helpText: 'What is to be done with the picture. The fields below depend on it.',
      },
      operationFields,
      {
        key: 'metadata',
        label: 'Metadata',
        dict: true,
        helpText: 'Your own words, such as `product_id` and `8411`. They come back in every event of the job.',
      },
      {
        key: 'channels',
        label: 'Channels',
        type: 'string',
        list: true,
        helpText: 'Only endpoints of these channels, and those without any, hear of the job.',
      },
      {
        key: 'wait',
        label: 'Wait for the Picture',
        type: 'boolean',
        helpText: `Waits up to ${LONGEST_WAIT} seconds. A job that takes longer goes on by itself: the trigger Job Succeeded tells of its end.`,
      },
      {
        key: 'idempotency_key',
        label: 'Idempotency Key',
        type: 'string',
        helpText: 'Something unique, such as the ID of the order. When Zapier repeats this step, the same key within a day is the same job, and is not paid for twice.',
      },
      {
        key: 'webhook',
        label: 'Webhook URL',
        type: 'string',
        helpText: 'An address for the events of this job alone, such as a "Catch Raw Hook" of Webhooks by Zapier.',
      },
      {
        key: 'webhook_events',
        label: 'Webhook Events',
        type: 'string',
        list: true,
        choices: JOB_EVENTS,
        helpText: 'Which events go to the webhook URL. Left empty: how the job ended.',
      },
    ],
    sample: JOB_SAMPLE,
    outputFields: JOB_FIELDS,
  },
};
