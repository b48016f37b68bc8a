// Not for Zaps: fills the drop-down of event types.
const { call } = require('../lib/wirephoto');

const WHOLE = [
  { id: '*', label: 'All events' },
  { id: 'job.*', label: 'All events of jobs' },
];

const perform = async (z, bundle) => {
  const { data } = await call(z, bundle, 'GET', '/v1/event-types');
  return [...WHOLE, ...data.map(({ type, description }) => ({ id: type, label: `${type}: ${description}` }))];
};

module.exports = {
  key: 'event_type',
  noun: 'Event Type',
  display: { label: 'List of Event Types', description: 'Fills a drop-down.', hidden: true },
  operation: { perform },
};
