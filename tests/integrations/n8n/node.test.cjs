// The action node against the running service, the forms of both, and the package as n8n loads it.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { NodeHelpers } = require('n8n-workflow');

const { account, api, context, credentialTypes, execute, manifest, nodes, PACKAGE } = require('./standin.cjs');

const SCALE = 'picwish/scale';
const SLOW = 'vanceai/enlarge3'; // takes the sandbox a second and a half
const photo = fs.readFileSync(process.env.PHOTO);
const items = [{ json: {}, binary: { data: { data: photo.toString('base64'), mimeType: 'image/jpeg', fileName: 'a "cat".jpg' } } }];
const params = (value) => ({ mappingMode: 'defineBelow', value });
const pairs = (object) => ({ pair: Object.entries(object).map(([key, value]) => ({ key, value })) });

let executions = 1000;
const submit = (more = {}, how = {}) =>
  execute({ operation: 'submit', jobOperation: SCALE, ...more }, { items, execution: String((executions += 1)), ...how });

test('a file of an earlier node becomes a finished picture', async () => {
  const [job] = await submit({ params: params({ type: 'face', scale_factor: '2' }), options: { metadata: pairs({ product_id: 8411 }), channels: 'north, south' } });
  assert.equal(job.state, 'succeeded');
  assert.deepEqual([job.params.scale_factor, job.params.type], [2, 'face'], 'a choice has the type that the vendor wants');
  assert.deepEqual([job.metadata, job.channels], [{ product_id: '8411' }, ['north', 'south']]);
  const [output] = job.outputs;
  const bytes = Buffer.from(await (await fetch(output.url)).arrayBuffer());
  assert.equal(bytes.length, output.bytes);
  const asset = await fetch(`${account.baseUrl}/v1/assets/${job.inputs.image.asset}/content`, { headers: { Authorization: `Bearer ${account.apiKey}` } });
  assert.deepEqual(Buffer.from(await asset.arrayBuffer()), photo, 'byte for byte what the earlier node had');
});

test('a job without waiting, then its end; another job goes on with its result', async () => {
  const [begun] = await submit({ wait: false });
  assert.equal(begun.finished_at, null);
  let job = begun;
  while (job.finished_at === null) [job] = await execute({ operation: 'get', jobId: begun.id });
  assert.deepEqual([job.id, job.state], [begun.id, 'succeeded']);
  const pictures = { picture: [{ name: 'image', source: 'job', job: job.id }] };
  const [next] = await submit({ jobOperation: 'picwish/segmentation', pictures });
  assert.deepEqual([next.state, next.inputs.image.job], ['succeeded', job.id]);
  const url = { picture: [{ name: 'image', source: 'url', url: next.outputs[0].url }] };
  assert.equal((await submit({ pictures: url }))[0].state, 'succeeded');
  const asset = { picture: [{ name: 'image', source: 'asset', asset: next.outputs[0].asset }] };
  assert.equal((await submit({ pictures: asset }))[0].state, 'succeeded');
});

test('a job that takes longer than a connection is held is asked for, and not for ever', async () => {
  const [job] = await submit({ jobOperation: SLOW, waitSeconds: 3 });
  assert.equal(job.state, 'succeeded');
  await assert.rejects(submit({ jobOperation: SLOW, waitSeconds: 1 }), /Job job_\w+ has not ended within 1 seconds/);
});

test('when n8n tries an item again nothing is paid for twice, in another run it is another job', async () => {
  const how = { execution: '17' };
  const [[first], [again]] = [await submit({}, how), await submit({}, how)];
  assert.equal(again.id, first.id);
  const others = [await submit({}, { ...how, runIndex: 1 }), await submit({}, { execution: '18' })];
  assert.equal(new Set([first, ...others.flat()].map((job) => job.id)).size, 3);
  const two = await submit({}, { execution: '19', items: [...items, ...items] });
  assert.notEqual(two[0].id, two[1].id);
  const nameless = [await submit({}, { execution: '' }), await submit({}, { execution: '' })].flat();
  assert.notEqual(nameless[0].id, nameless[1].id);
  const own = { options: { idempotencyKey: 'order-17' } };
  assert.equal((await submit(own))[0].id, (await submit(own))[0].id);
});

test('jobs are found by their metadata, newest first', async () => {
  const options = { metadata: pairs({ shop: 'east', shelf: '7' }) };
  const jobs = [await submit({ options }), await submit({ options })].map(([job]) => job.id);
  const found = await execute({ operation: 'find', metadata: pairs({ shop: 'east', shelf: '7' }) });
  assert.deepEqual(found.map((job) => job.id), jobs.reverse());
  assert.deepEqual(await execute({ operation: 'find', metadata: pairs({ shop: 'nowhere' }) }), []);
});

test('a refusal names every faulty field with its reason', async () => {
  const wrong = { params: params({ scale_factor: '3' }), pictures: { picture: [] } };
  await assert.rejects(submit(wrong), (error) => {
    assert.equal(error.httpCode, '422');
    assert.match(error.description, /params\.scale_factor: .*1, 2, 4/);
    assert.match(error.description, /inputs\.image/);
    return true;
  });
  const [told] = await submit({ ...wrong, continueOnFail: true });
  assert.match(told.description, /params\.scale_factor/);
  await assert.rejects(submit({ jobOperation: '../me' }), /vendor\/name/);
  await assert.rejects(execute({ operation: 'get', jobId: 'job_0' }), { httpCode: '404' });
  const elsewhere = { credentials: { ...account, baseUrl: `${account.baseUrl}/docs` } };
  await assert.rejects(execute({ operation: 'get', jobId: 'job_0' }, elsewhere), { httpCode: '404' });
});

test('every operation that can be run has a form', async () => {
  const { methods } = nodes.Wirephoto;
  const listed = await methods.loadOptions.getOperations.call(context('Wirephoto', {}));
  const { body } = await api('GET', '/v1/operations');
  assert.deepEqual(listed.map(({ value }) => value), body.data.filter((entry) => entry.configured && !entry.declared).map(({ id }) => id));
  for (const { value } of listed) {
    const { fields } = await methods.resourceMapping.getParams.call(context('Wirephoto', { jobOperation: value }));
    assert.equal(new Set(fields.map(({ id }) => id)).size, fields.length, value);
  }
  const { fields } = await methods.resourceMapping.getParams.call(context('Wirephoto', { jobOperation: SLOW }));
  const byId = Object.fromEntries(fields.map((field) => [field.id, field]));
  assert.deepEqual([byId.suppress_noise.type, byId.suppress_noise.displayName], ['number', 'suppress_noise (40 if left out)']);
  assert.deepEqual(byId.scale.options.map(({ value }) => value), ['2', '4', '6', '8']);
  assert.equal(byId['out_params.compress.quality'].required, false);
  const types = await nodes.WirephotoTrigger.methods.loadOptions.getEventTypes.call(context('WirephotoTrigger', {}));
  assert.ok(types.some(({ value }) => value === 'job.succeeded') && types.some(({ value }) => value === 'job.*'));
});

test('n8n finds nothing missing in a form that is filled in, and says what is', () => {
  const issues = (type, parameters) => {
    const { description } = nodes[type];
    const node = { ...context(type, parameters).getNode(), parameters: context(type, parameters).given };
    return NodeHelpers.getNodeParametersIssues(description.properties, node, description)?.parameters ?? {};
  };
  assert.deepEqual(issues('Wirephoto', { jobOperation: SCALE }), {});
  assert.deepEqual(Object.keys(issues('Wirephoto', {})), ['jobOperation']);
  assert.deepEqual(Object.keys(issues('Wirephoto', { operation: 'get' })), ['jobId']);
  assert.deepEqual(issues('WirephotoTrigger', {}), {});
});

test('an account is tried by its own request', async () => {
  const { test: trial } = credentialTypes.WirephotoApi;
  const typed = { ...account, baseUrl: `${account.baseUrl}//` };
  const { helpers, resolved } = context('Wirephoto', {}, { credentials: typed });
  const url = resolved(trial.request.baseURL, { $credentials: typed }) + trial.request.url;
  const me = await helpers.httpRequestWithAuthentication('wirephotoApi', { method: 'GET', url });
  assert.equal(me.object, 'me');
});

test('the package is what n8n installs', () => {
  assert.ok(manifest.name.startsWith('n8n-nodes-') && manifest.keywords.includes('n8n-community-node-package'));
  assert.equal(manifest.dependencies, undefined, 'a community node brings no packages along');
  for (const [file, loaded] of [...manifest.n8n.nodes, ...manifest.n8n.credentials].map((file) => [file, { ...nodes, ...credentialTypes }[path.basename(file).split('.')[0]]])) {
    const icon = (loaded.icon ?? loaded.description.icon).replace('file:', '');
    assert.ok(fs.existsSync(path.join(PACKAGE, path.dirname(file), icon)), icon);
    const packed = manifest.files.some((folder) => file.startsWith(`${folder}/`));
    assert.ok(packed, file);
  }
});
