// Where a Wirephoto is, and a key of one of its projects.

/** @typedef {import('n8n-workflow').ICredentialType} ICredentialType */

/** @implements {ICredentialType} */
class WirephotoApi {
  name = 'wirephotoApi';
  displayName = 'Wirephoto API';
  icon = /** @type {const} */ ('file:../icons/wirephoto.svg');

  /** @type {import('n8n-workflow').INodeProperties[]} */
  properties = [
    {
      displayName: 'Address',
      name: 'baseUrl',
      type: 'string',
      default: 'http://127.0.0.1:8080',
      required: true,
      description: 'Where n8n reaches your Wirephoto, without a path',
    },
    {
      displayName: 'API Key',
      name: 'apiKey',
      type: 'string',
      typeOptions: { password: true },
      default: '',
      required: true,
      description: 'A key with the role "write"',
    },
  ];

  /** @type {import('n8n-workflow').IAuthenticateGeneric} */
  authenticate = {
    type: 'generic',
    properties: { headers: { Authorization: '=Bearer {{$credentials.apiKey}}' } },
  };

  /** @type {import('n8n-workflow').ICredentialTestRequest} */
  test = { request: { baseURL: '={{$credentials.baseUrl.replace(/\\/+$/, "")}}', url: '/v1/me' } };
}

module.exports = { WirephotoApi };
