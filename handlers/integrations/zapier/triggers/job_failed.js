// For those who look after jobs: which one failed, and why.
const { hook, METADATA, OPERATION } = require('../lib/hook');
const { EVENT_FIELDS, SAMPLES } = require('../lib/shapes');

module.exports = {
  key: 'job_failed',
  noun: 'Job',
  display: {
    label: 'Job Failed',
    description: 'Triggers when a job has ended without a picture, with the reason.',
  },
  operation: hook(() => ['job.failed'], {
    inputFields: [OPERATION, METADATA],
    sample: SAMPLES['job.failed'],
    outputFields: EVENT_FIELDS,
  }),
};
