// Any event of the log: jobs at every step, endpoints, deliveries, vendors.
const { hook } = require('../lib/hook');
const { SAMPLES } = require('../lib/shapes');

const JOBS = 'job.*';

const eventsOf = ({ events }) => (events?.length ? [events].flat() : [JOBS]);

module.exports = {
  key: 'event',
  noun: 'Event',
  display: {
    label: 'New Event',
    description: 'Triggers when any of the events that you choose has happened.',
  },
  operation: hook(eventsOf, {
    inputFields: [
      {
        key: 'events',
        label: 'Events',
        type: 'string',
        list: true,
        dynamic: 'event_type.id.label',
        helpText: 'Which events this is about. Left empty: all events of jobs.',
      },
    ],
    sample: SAMPLES['job.succeeded'],
    // Each kind of event has fields of its own; these are in all of them.
    outputFields: [
      { key: 'id', label: 'Event ID', type: 'string', primary: true },
      { key: 'type', label: 'Event Type', type: 'string' },
      { key: 'timestamp', label: 'Time', type: 'datetime' },
      { key: 'sequence', label: 'Sequence', type: 'integer' },
      { key: 'object', label: 'Kind of Object', type: 'string' },
    ],
  }),
};
