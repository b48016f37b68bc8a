// How a job is doing, by its id.
const { JOB_FIELDS, JOB_SAMPLE, shownJob } = require('../lib/shapes');
const { call } = require('../lib/wirephoto');

const perform = async (z, bundle) =>
  shownJob(await call(z, bundle, 'GET', `/v1/jobs/${encodeURIComponent(bundle.inputData.job_id)}`));

module.exports = {
  key: 'get_job',
  noun: 'Job',
  display: {
    label: 'Get Job',
    description: 'Gets a job by its ID, with its state and, once it is there, its picture.',
  },
  operation: {
    perform,
    inputFields: [
      {
        key: 'job_id',
        label: 'Job ID',
        type: 'string',
        required: true,
        search: 'find_job.id',
        helpText: 'The ID of a job, as Submit Job and every event tell it: `job_…`.',
      },
    ],
    sample: JOB_SAMPLE,
    outputFields: JOB_FIELDS,
  },
};
