// What every trigger is: a REST hook. It subscribes by itself, and its samples are what a hook would have been sent.
const { call } = require('./wirephoto');

const MOST_SAMPLES = 100;

// What is asked of the service, which then sends nothing else; `metadata` by your own keys.
const filterOf = ({ operation, metadata = {} }) => ({
  ...(operation ? { 'data.operation': operation } : {}),
  ...Object.fromEntries(Object.entries(metadata).map(([key, value]) => [`data.metadata.${key}`, String(value)])),
});

const passes = (event, { operation, metadata = {} }) =>
  (!operation || event.operation === operation) &&
  Object.entries(metadata).every(([key, value]) => event[`metadata_${key}`] === String(value));

const includes = (patterns, type) =>
  patterns.some((pattern) => pattern === '*' || pattern === type || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1))));

const subscribeTo = (eventsOf) => (z, bundle) =>
  call(z, bundle, 'POST', '/v1/hooks', {
    body: { targetUrl: bundle.targetUrl, events: eventsOf(bundle.inputData), filter: filterOf(bundle.inputData) },
  });

// Answered 204 whatever the id, so that a Zap can always be switched off.
const unsubscribe = async (z, bundle) => {
  await call(z, bundle, 'DELETE', `/v1/hooks/${encodeURIComponent(bundle.subscribeData.id)}`);
  return {};
};

// A test message, which the service sends on request, is no event that a Zap waits for.
const performFor = (eventsOf) => async (z, bundle) => {
  const event = bundle.cleanedRequest;
  return event?.id && includes(eventsOf(bundle.inputData), event.type) ? [event] : [];
};

const listFor = (eventsOf) => async (z, bundle) => {
  const patterns = eventsOf(bundle.inputData);
  const event = patterns.length === 1 ? patterns[0] : '*';
  const recent = await call(z, bundle, 'GET', '/v1/hooks/samples', { params: { event, limit: MOST_SAMPLES } });
  return recent.filter((sample) => includes(patterns, sample.type) && passes(sample, bundle.inputData));
};

const OPERATION = {
  key: 'operation',
  label: 'Operation',
  type: 'string',
  dynamic: 'operation.id.label',
  helpText: 'Only jobs of this operation. Left empty: all jobs.',
};
const METADATA = {
  key: 'metadata',
  label: 'Metadata',
  dict: true,
  helpText: 'Only jobs with this metadata, such as `shop` and `north`. All pairs must fit.',
};

/** The operation of a hook trigger; `eventsOf` tells from what was filled in which events it is for. */
const hook = (eventsOf, more) => ({
  type: 'hook',
  performSubscribe: subscribeTo(eventsOf),
  performUnsubscribe: unsubscribe,
  perform: performFor(eventsOf),
  performList: listFor(eventsOf),
  ...more,
});

module.exports = { hook, METADATA, OPERATION };
