// The Zapier app: everything that a Zap can do with a Wirephoto, on one screen.
const authentication = require('./authentication');
const { version } = require('./package.json');
const { version: platformVersion } = require('zapier-platform-core');

const byKey = (...operations) => Object.fromEntries(operations.map((operation) => [operation.key, operation]));

module.exports = {
  version,
  platformVersion,
  authentication,
  // What a user left empty never reaches our code, so it is never sent either.
  flags: { cleanInputData: true },
  triggers: byKey(
    require('./triggers/job_succeeded'),
    require('./triggers/job_failed'),
    require('./triggers/event'),
    require('./triggers/operation'),
    require('./triggers/event_type'),
  ),
  creates: byKey(require('./creates/submit_job'), require('./creates/get_job')),
  searches: byKey(require('./searches/find_job')),
};
