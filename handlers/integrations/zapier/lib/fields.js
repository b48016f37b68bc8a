// An operation's inputs and its params' JSON Schema as form fields, and what was filled in back as a request.
//
// Nested params become one field each, keyed by their path; only a list of objects is left to be written as JSON.

const SCALARS = { integer: 'integer', number: 'number', boolean: 'boolean', string: 'string' };
const BOOLEANS = new Map([['true', true], ['yes', true], ['1', true], ['false', false], ['no', false], ['0', false]]);
const LONGEST_HELP = 1000;

const titled = (name) => name.replace(/[_-]+/g, ' ').replace(/\b\w/g, (letter) => letter.toUpperCase());

const typesOf = (schema) => {
  if (schema.anyOf) return schema.anyOf.flatMap(typesOf);
  if (schema.enum && !schema.type) return [...new Set(schema.enum.map((value) => typeof value))];
  return [schema.type ?? 'any'].flat();
};

const isScalar = (schema) => typesOf(schema).every((type) => type in SCALARS);

// What one field can hold: `{ path, schema, required, how }`.
const leaves = (schema, path = [], required = true) =>
  Object.entries(schema.properties ?? {}).flatMap(([name, own]) => {
    const here = [...path, name];
    const needed = required && (schema.required ?? []).includes(name);
    if (own.type === 'object' && own.properties) return leaves(own, here, needed);
    if (isScalar(own)) return [{ path: here, schema: own, required: needed, how: 'scalar' }];
    if (own.type === 'array' && own.items && isScalar(own.items)) {
      return [{ path: here, schema: own, required: needed, how: 'list' }];
    }
    return [{ path: here, schema: own, required: needed, how: 'json' }];
  });

const keyOf = ({ path }) => ['param', ...path].join('_');
const labelOf = ({ path }) => path.map(titled).join(': ');

const rangeOf = ({ minimum, maximum }) => {
  if (minimum !== undefined && maximum !== undefined) return `From ${minimum} to ${maximum}.`;
  if (minimum !== undefined) return `${minimum} or more.`;
  return maximum === undefined ? '' : `${maximum} or less.`;
};

const shownDefault = (schema) => (schema.default === undefined ? '' : `Left empty, it is ${JSON.stringify(schema.default)}.`);

const helpOf = ({ schema, how }) => {
  const hint = how === 'json' ? `Written as JSON, of this schema: \`${JSON.stringify(schema.items ?? schema)}\`` : '';
  const whole = [schema.description, rangeOf(schema), shownDefault(schema), hint].filter(Boolean).join(' ');
  return (whole || 'By the vendor\'s own name for it.').slice(0, LONGEST_HELP);
};

// Numbers may stand in a schema as texts too; people choose among what looks different.
const choicesOf = (schema) => {
  const values = [...new Set(schema.enum.map(String))];
  return values.map((value) => ({ value, label: value, sample: value }));
};

const typeOf = (schema) => {
  const [type, ...more] = typesOf(schema);
  return more.length ? 'string' : SCALARS[type];
};

const paramField = (leaf) => {
  const { schema, how } = leaf;
  const common = { key: keyOf(leaf), label: labelOf(leaf), required: leaf.required, helpText: helpOf(leaf) };
  if (how === 'json') return { ...common, type: 'text' };
  const one = how === 'list' ? schema.items : schema;
  const kind = one.enum ? { choices: choicesOf(one) } : { type: typeOf(one) };
  // Never `default`: Zapier would send it, and a param that is sent is one that its user has chosen. Some vendors
  // switch to their own judgement only where nothing is.
  const placeholder = !one.enum && String(schema.default ?? '') !== '' ? { placeholder: String(schema.default) } : {};
  return { ...common, ...kind, ...placeholder, ...(how === 'list' ? { list: true } : {}) };
};

const inputFields = ({ name, required, content_types: types }) => {
  const label = titled(name);
  const which = required ? 'Fill in one of its fields.' : 'May be left out.';
  const kinds = types.map((type) => type.split('/').pop()).join(', ');
  return [
    {
      key: `input_${name}_url`, label: `${label}: URL`, type: 'string',
      helpText: `An address that Wirephoto fetches at once. ${kinds ? `Takes ${kinds}.` : ''} ${which}`,
    },
    { key: `input_${name}_file`, label: `${label}: File`, type: 'file', helpText: `A file of an earlier step. ${which}` },
    {
      key: `input_${name}_job`, label: `${label}: Result of a Job`, type: 'string',
      helpText: `The ID of a finished job, whose picture is taken. ${which}`,
    },
  ];
};

const fieldsOf = (operation) => [
  ...operation.inputs.flatMap(inputFields),
  ...leaves(operation.params).map(paramField),
];

const scalar = (schema, value) => {
  const text = String(value).trim();
  if (schema.enum) return schema.enum.find((known) => String(known) === text) ?? value;
  const types = typesOf(schema);
  // Digits that a number can't hold stay what they are.
  if (types.includes('string')) return text;
  if (types.includes('boolean')) return BOOLEANS.get(text.toLowerCase()) ?? value;
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : value;
};

const READ = {
  scalar: (schema, value) => scalar(schema, value),
  list: (schema, value) => [value].flat().map((entry) => scalar(schema.items, entry)),
  json: (schema, value) => (typeof value === 'string' ? JSON.parse(value) : value),
};

/** What was filled in as the request's `params`. What can't be understood is sent as it is: the service says why not. */
const paramsOf = (z, operation, inputData) => {
  const params = {};
  for (const leaf of leaves(operation.params)) {
    const value = inputData[keyOf(leaf)];
    if (value === undefined || value === null || value === '') continue;
    let read;
    try {
      read = READ[leaf.how](leaf.schema, value);
    } catch (error) {
      throw new z.errors.Error(`${labelOf(leaf)} is no JSON: ${error.message}`, 'invalid_request');
    }
    const parent = leaf.path.slice(0, -1).reduce((at, name) => (at[name] ??= {}), params);
    parent[leaf.path.at(-1)] = read;
  }
  return params;
};

module.exports = { fieldsOf, paramsOf };
