// Runs our Zapier app as Zapier does, by Zapier's own tester. Reads {"run": …, "bundle": …}, a line each.
// Standard output is for answers; Zapier's platform likes to talk.
console.log = console.error;

const path = require('node:path');
const readline = require('node:readline');

const zapier = require('zapier-platform-core');
const { validateAppDefinition } = require('zapier-platform-schema');

const App = require(path.resolve(__dirname, '../../handlers/integrations/zapier'));

const run = zapier.createAppTester(App);
const at = (where) => where.split('.').reduce((found, name) => found[name], App);

const answers = {
  // What Zapier stores of an app, and what its own schema says to that.
  definition: async () => (await zapier.createAppHandler(App)({ command: 'definition' })).results,
  validate: async () => {
    const definition = await answers.definition();
    return validateAppDefinition(definition).errors.map((error) => error.stack);
  },
  // What Zapier's schema says to fields that our code has made while it ran.
  faultyFields: async ({ fields }) => fields.flatMap((field) => {
    const definition = App.triggers.job_failed;
    const form = { ...definition, operation: { sample: definition.operation.sample, perform: '$func$2$f$', inputFields: [field] } };
    return validateAppDefinition({
      version: App.version, platformVersion: App.platformVersion, creates: { job_failed: form },
    }).errors.map((error) => `${field.key}: ${error.stack}`);
  }),
};

const answer = async (line) => {
  const asked = JSON.parse(line);
  try {
    const result = await (answers[asked.run]?.(asked) ?? run(at(asked.run), asked.bundle));
    return { result };
  } catch (error) {
    return { error: { name: error.name, message: error.message } };
  }
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
  }
})();
