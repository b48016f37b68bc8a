// What the drop-downs of both nodes offer: asked of the service, never written down here.
const { call } = require('./api');

const WHOLE = [
  { name: 'All Events', value: '*' },
  { name: 'All Events of Jobs', value: 'job.*' },
];

/** @this {import('n8n-workflow').ILoadOptionsFunctions} */
async function getEventTypes() {
  const { body } = await call(this, 'GET', '/v1/event-types');
  return [
    ...WHOLE,
    ...body.data.map((/** @type {any} */ { type, description }) => ({ name: type, value: type, description })),
  ];
}

/**
 * What this installation can really run.
 *
 * @this {import('n8n-workflow').ILoadOptionsFunctions}
 */
async function getOperations() {
  const { body } = await call(this, 'GET', '/v1/operations');
  return body.data
    .filter((/** @type {any} */ operation) => operation.configured && !operation.declared)
    .map((/** @type {any} */ { id, title, deprecated, inputs }) => ({
      name: `${title} (${id})${deprecated ? ', deprecated' : ''}`,
      value: id,
      description: `Takes ${inputs.map((/** @type {any} */ input) => input.name + (input.required ? '' : '?')).join(', ') || 'no picture'}`,
    }));
}

module.exports = { getEventTypes, getOperations };
