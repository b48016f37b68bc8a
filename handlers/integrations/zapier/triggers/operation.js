// Not for Zaps: fills the drop-down of operations, with what this installation can really run.
const { call } = require('../lib/wirephoto');

const perform = async (z, bundle) => {
  const { data } = await call(z, bundle, 'GET', '/v1/operations');
  return data
    .filter((operation) => operation.configured && !operation.declared)
    .map(({ id, title, deprecated }) => ({ id, label: `${title} (${id})${deprecated ? ', deprecated' : ''}` }));
};

module.exports = {
  key: 'operation',
  noun: 'Operation',
  display: { label: 'List of Operations', description: 'Fills a drop-down.', hidden: true },
  operation: { perform },
};
