// An operation's params, a JSON Schema, as the fields that n8n maps to; and what was mapped back as `params`.

/**
 * @typedef {import('n8n-workflow').ResourceMapperField} Field
 * @typedef {{ path: string[], schema: any, required: boolean }} Leaf
 */

/** @type {Record<string, import('n8n-workflow').FieldType>} */
const TYPES = { integer: 'number', number: 'number', boolean: 'boolean', array: 'array', object: 'object' };
const SEPARATOR = '.';

/**
 * Nested params become a field each, named by their path.
 *
 * @param {any} schema
 * @param {string[]} [path]
 * @param {boolean} [required]
 * @returns {Leaf[]}
 */
const leaves = (schema, path = [], required = true) =>
  Object.entries(schema.properties ?? {}).flatMap(([name, own]) => {
    const here = [...path, name];
    const needed = required && (schema.required ?? []).includes(name);
    return own.type === 'object' && own.properties ? leaves(own, here, needed) : [{ path: here, schema: own, required: needed }];
  });

/** @param {any} schema  Numbers may stand in it as texts too: people choose among what looks different. */
const choicesOf = (schema) =>
  /** @type {string[]} */ ([...new Set(schema.enum.map(String))]).map((value) => ({ name: value, value }));

/**
 * @param {Leaf} leaf
 * @returns {Field}
 */
const fieldOf = ({ path, schema, required }) => {
  const id = path.join(SEPARATOR);
  const kind = schema.enum
    ? { type: /** @type {const} */ ('options'), options: choicesOf(schema) }
    : { type: TYPES[schema.type] ?? /** @type {const} */ ('string') };
  // No default value: it would be sent, and what is sent is what the user has chosen.
  const hint = schema.default === undefined ? '' : ` (${JSON.stringify(schema.default)} if left out)`;
  return { id, displayName: `${id}${hint}`, required, defaultMatch: false, canBeUsedToMatch: false, display: true, ...kind };
};

/** @param {any} operation */
const fieldsOf = (operation) => leaves(operation.params).map(fieldOf);

/**
 * @param {any} operation
 * @param {Record<string, unknown> | null} mapped  By field; what was left empty is null
 */
const paramsOf = (operation, mapped) => {
  /** @type {Record<string, any>} */
  const params = {};
  for (const { path, schema } of leaves(operation.params)) {
    const value = mapped?.[path.join(SEPARATOR)];
    if (value === undefined || value === null || value === '') continue;
    const parent = path.slice(0, -1).reduce((at, name) => (at[name] ??= {}), params);
    const last = /** @type {string} */ (path.at(-1));
    parent[last] = schema.enum ? schema.enum.find((/** @type {unknown} */ known) => String(known) === String(value)) ?? value : value;
  }
  return params;
};

module.exports = { fieldsOf, paramsOf };
