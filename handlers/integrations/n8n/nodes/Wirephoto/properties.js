// The form of the node, by what it is to do.

/** @type {(...operations: string[]) => import('n8n-workflow').IDisplayOptions} */
const shownFor = (...operations) => ({ show: { operation: operations } });
const BY_EXPRESSION = 'Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>';

/** @type {(displayName: string, name: string, description: string) => import('n8n-workflow').INodeProperties} */
const pairs = (displayName, name, description) => ({
  displayName,
  name,
  type: 'fixedCollection',
  typeOptions: { multipleValues: true },
  placeholder: 'Add Pair',
  default: {},
  description,
  options: [
    {
      displayName: 'Pair',
      name: 'pair',
      values: [
        { displayName: 'Key', name: 'key', type: 'string', default: '' },
        { displayName: 'Value', name: 'value', type: 'string', default: '' },
      ],
    },
  ],
});

/** @type {(displayName: string, source: string, value: string, description: string) => import('n8n-workflow').INodeProperties} */
const sourceField = (displayName, source, value, description) => ({
  displayName,
  name: source,
  type: 'string',
  default: value,
  displayOptions: { show: { source: [source] } },
  description,
});

/** @type {import('n8n-workflow').INodeProperties[]} */
const properties = [
  {
    displayName: 'Operation',
    name: 'operation',
    type: 'options',
    noDataExpression: true,
    options: [
      { name: 'Submit Job', value: 'submit', action: 'Submit a job', description: 'Hands a picture to one of your vendors, which is paid for it' },
      { name: 'Get Job', value: 'get', action: 'Get a job', description: 'How a job is doing, with its pictures once they are there' },
      { name: 'Find Jobs', value: 'find', action: 'Find jobs by metadata', description: 'Jobs with your own metadata, newest first' },
    ],
    default: 'submit',
  },
  {
    displayName: 'Job Operation Name or ID',
    name: 'jobOperation',
    type: 'options',
    typeOptions: { loadOptionsMethod: 'getOperations' },
    default: '',
    required: true,
    displayOptions: shownFor('submit'),
    description: `What is to be done with the picture. ${BY_EXPRESSION}.`,
  },
  {
    displayName: 'Pictures',
    name: 'pictures',
    type: 'fixedCollection',
    typeOptions: { multipleValues: true },
    placeholder: 'Add Picture',
    default: { picture: [{ name: 'image', source: 'binary', binary: 'data' }] },
    displayOptions: shownFor('submit'),
    options: [
      {
        displayName: 'Picture',
        name: 'picture',
        values: [
          { displayName: 'Input', name: 'name', type: 'string', default: 'image', description: 'Which of the operation\'s inputs it is; most have one, image' },
          {
            displayName: 'From',
            name: 'source',
            type: 'options',
            options: [
              { name: 'Asset', value: 'asset' },
              { name: 'Binary Field', value: 'binary' },
              { name: 'Result of a Job', value: 'job' },
              { name: 'URL', value: 'url' },
            ],
            default: 'binary',
          },
          sourceField('Binary Field', 'binary', 'data', 'The field of the item that holds the file'),
          sourceField('URL', 'url', '', 'An address that Wirephoto fetches at once'),
          sourceField('Job ID', 'job', '', 'A finished job, whose picture is taken'),
          sourceField('Asset ID', 'asset', '', 'A picture that Wirephoto holds'),
        ],
      },
    ],
  },
  {
    displayName: 'Params',
    name: 'params',
    type: 'resourceMapper',
    noDataExpression: true,
    default: { mappingMode: 'defineBelow', value: null },
    displayOptions: shownFor('submit'),
    typeOptions: {
      loadOptionsDependsOn: ['jobOperation'],
      resourceMapper: {
        resourceMapperMethod: 'getParams',
        mode: 'add',
        valuesLabel: 'Params',
        fieldWords: { singular: 'param', plural: 'params' },
        addAllFields: false,
        supportAutoMap: false,
      },
    },
  },
  {
    displayName: 'Wait for the Picture',
    name: 'wait',
    type: 'boolean',
    default: true,
    displayOptions: shownFor('submit'),
    description: 'Whether to go on only when the job has ended',
  },
  {
    displayName: 'Wait at Most (Seconds)',
    name: 'waitSeconds',
    type: 'number',
    typeOptions: { minValue: 1 },
    default: 300,
    displayOptions: { show: { operation: ['submit'], wait: [true] } },
  },
  {
    displayName: 'Options',
    name: 'options',
    type: 'collection',
    placeholder: 'Add Option',
    default: {},
    displayOptions: shownFor('submit'),
    options: [
      { displayName: 'Channels', name: 'channels', type: 'string', default: '', description: 'Comma-separated. Only endpoints of these channels, and those without any, hear of the job.' },
      { displayName: 'Idempotency Key', name: 'idempotencyKey', type: 'string', default: '', description: 'The same key within a day is the same job. Left empty, a retry of this item in this execution is the same job.' },
      pairs('Metadata', 'metadata', 'Your own words; they come back in every event of the job'),
      { displayName: 'Webhook URL', name: 'webhook', type: 'string', default: '', description: 'An address for the events of this job alone' },
    ],
  },
  {
    displayName: 'Job ID',
    name: 'jobId',
    type: 'string',
    default: '',
    required: true,
    displayOptions: shownFor('get'),
  },
  { ...pairs('Metadata', 'metadata', 'What the job was submitted with; all pairs must fit'), displayOptions: shownFor('find') },
  {
    displayName: 'Limit',
    name: 'limit',
    type: 'number',
    typeOptions: { minValue: 1, maxValue: 200 },
    default: 50,
    displayOptions: shownFor('find'),
    description: 'Max number of results to return',
  },
];

module.exports = { properties };
