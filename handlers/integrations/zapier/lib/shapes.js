// What comes out of the app's steps: fields with labels, and samples for an editor that has seen nothing yet.
//
// samples.json is the service's own words, of `GET /v1/event-types`; a test holds the two together.
const SAMPLES = require('./samples.json');

const field = (key, label, type = 'string') => ({ key, label, type });

// An event in the flat form. What users name themselves (`metadata_…`, `param_…`) Zapier finds in real samples.
const EVENT_FIELDS = [
  { ...field('id', 'Event ID'), primary: true },
  field('type', 'Event Type'),
  field('timestamp', 'Time', 'datetime'),
  field('sequence', 'Sequence', 'integer'),
  field('object', 'Kind of Object'),
  field('job_id', 'Job ID'),
  field('operation', 'Operation'),
  field('vendor', 'Vendor'),
  field('state', 'State'),
  field('image_url', 'Image URL'),
  field('image_width', 'Image Width', 'integer'),
  field('image_height', 'Image Height', 'integer'),
  field('image_content_type', 'Image Content Type'),
  field('image_bytes', 'Image Size in Bytes', 'integer'),
  field('image_sha256', 'Image SHA-256'),
  field('image_asset', 'Image Asset ID'),
  field('error_class', 'Error Class'),
  field('error_code', 'Error Code'),
  field('error_message', 'Error Message'),
  field('error_retryable', 'Can Be Tried Again', 'boolean'),
  field('credits', 'Credits'),
  field('charged', 'Charged'),
  field('possible_duplicate', 'May Be Paid Twice', 'boolean'),
  field('progress', 'Progress', 'integer'),
  field('submissions', 'Submissions', 'integer'),
  field('vendor_task_id', 'Vendor Task ID'),
  field('retry_of', 'Retry of Job'),
  field('created_at', 'Created At', 'datetime'),
  field('submitted_at', 'Submitted At', 'datetime'),
  field('finished_at', 'Finished At', 'datetime'),
  field('channels', 'Channels'),
];

const JOB_FIELDS = [
  { ...field('id', 'Job ID'), primary: true },
  field('state', 'State'),
  field('operation', 'Operation'),
  field('vendor', 'Vendor'),
  field('progress', 'Progress', 'integer'),
  field('image_url', 'Image URL'),
  field('error__class', 'Error Class'),
  field('error__code', 'Error Code'),
  field('error__message', 'Error Message'),
  field('error__retryable', 'Can Be Tried Again', 'boolean'),
  field('billing__credits', 'Credits'),
  field('billing__charged', 'Charged'),
  field('billing__possible_duplicate', 'May Be Paid Twice', 'boolean'),
  field('vendor_task_id', 'Vendor Task ID'),
  field('created_at', 'Created At', 'datetime'),
  field('submitted_at', 'Submitted At', 'datetime'),
  field('finished_at', 'Finished At', 'datetime'),
];

// The first picture is what most Zaps go on with: it must not be looked for in a list.
const shownJob = (job) => ({ ...job, image_url: (job.outputs[0] ?? {}).url ?? null });

const JOB_SAMPLE = shownJob(SAMPLES.job);

module.exports = { EVENT_FIELDS, JOB_FIELDS, JOB_SAMPLE, SAMPLES, shownJob };
