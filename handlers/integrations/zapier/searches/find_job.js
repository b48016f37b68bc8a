// Finds jobs by the words that their users gave them.
const { OPERATION } = require('../lib/hook');
const { JOB_FIELDS, JOB_SAMPLE, shownJob } = require('../lib/shapes');
const { call } = require('../lib/wirephoto');

const STATES = ['queued', 'staging', 'submitting', 'running', 'fetching', 'succeeded', 'failed', 'canceled'];
// Zapier goes on with the first one; the others are there for who looks.
const LIMIT = 10;

const perform = async (z, bundle) => {
  const { metadata, state, operation } = bundle.inputData;
  const wanted = Object.fromEntries(Object.entries(metadata).map(([key, value]) => [`metadata.${key}`, String(value)]));
  const params = { ...wanted, ...(state ? { state } : {}), ...(operation ? { operation } : {}), limit: LIMIT };
  const { data } = await call(z, bundle, 'GET', '/v1/jobs', { params });
  return data.map(shownJob);
};

module.exports = {
  key: 'find_job',
  noun: 'Job',
  display: {
    label: 'Find Job by Metadata',
    description: 'Finds the newest job with your own metadata, such as a product\'s ID.',
  },
  operation: {
    perform,
    inputFields: [
      {
        key: 'metadata',
        label: 'Metadata',
        dict: true,
        required: true,
        helpText: 'What the job was submitted with, such as `product_id` and `8411`. All pairs must fit.',
      },
      {
        key: 'state',
        label: 'State',
        type: 'string',
        choices: STATES,
        helpText: 'Only jobs in this state. Left empty: all jobs.',
      },
      OPERATION,
    ],
    sample: JOB_SAMPLE,
    outputFields: JOB_FIELDS,
  },
};
