// The trigger that most Zaps begin with: a finished picture, by its link.
const { hook, METADATA, OPERATION } = require('../lib/hook');
const { EVENT_FIELDS, SAMPLES } = require('../lib/shapes');

module.exports = {
  key: 'job_succeeded',
  noun: 'Job',
  display: {
    label: 'Job Succeeded',
    description: 'Triggers when a job has its finished picture.',
  },
  operation: hook(() => ['job.succeeded'], {
    inputFields: [OPERATION, METADATA],
    sample: SAMPLES['job.succeeded'],
    outputFields: EVENT_FIELDS,
  }),
};
