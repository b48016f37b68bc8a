// A connection is the address of a Wirephoto and a key of one of its projects.
const { baseUrl, call } = require('./lib/wirephoto');

// A key that may only read could neither subscribe nor submit: better said now than when the Zap is switched on.
const test = async (z, bundle) => {
  const me = await call(z, bundle, 'GET', '/v1/me');
  if (me.key.role === 'read') {
    throw new z.errors.Error('This API key may only read. Make one with the role "write".', 'AuthenticationError', 403);
  }
  return me;
};

const connectionLabel = (z, bundle) => {
  const { project, key } = bundle.inputData;
  return `${project.name} at ${new URL(baseUrl(z, bundle)).host} (${key.name || key.id})`;
};

module.exports = {
  type: 'custom',
  test,
  connectionLabel,
  fields: [
    {
      key: 'base_url',
      label: 'Address',
      type: 'string',
      required: true,
      isNoSecret: true,
      placeholder: 'https://photos.example.com',
      helpText: 'Where your Wirephoto is reached from the internet: its `PUBLIC_URL`, without a path.',
    },
    {
      key: 'api_key',
      label: 'API Key',
      type: 'password',
      required: true,
      helpText: 'A key with the role "write". Make one with `wirephoto keys create --role write`.',
    },
  ],
};
