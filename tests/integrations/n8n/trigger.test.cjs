// The trigger node against the running service: subscribing, real deliveries, and what is refused.
const assert = require('node:assert/strict');
const { createHmac } = require('node:crypto');
const http = require('node:http');
const { after, before, beforeEach, test } = require('node:test');

const { isSigned } = require('../../../handlers/integrations/n8n/lib/signature');
const { api, context, delivered, nodes } = require('./standin.cjs');

const TYPE = 'WirephotoTrigger';
const { checkExists, create, delete: remove } = nodes[TYPE].webhookMethods.default;
const SCALE = 'picwish/scale';

// n8n's web server: keeps each request with its bytes as they came.
let server, webhookUrl, got, arrived;
before(async () => {
  server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    response.writeHead(200).end();
    got.push({ headers: request.headers, rawBody: Buffer.concat(chunks) });
    arrived?.();
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  webhookUrl = `http://127.0.0.1:${server.address().port}/webhook/1`;
});
after(() => server.close());
beforeEach(() => { got = []; });

const delivery = async () => {
  while (!got.length) await new Promise((ready) => { arrived = ready; });
  return got.shift();
};

const active = async (t, parameters = { events: ['job.queued'] }) => {
  const made = context(TYPE, parameters, { webhookUrl });
  assert.equal(await checkExists.call(made), false);
  assert.equal(await create.call(made), true);
  t.after(() => remove.call(made));
  return made;
};

const something = async () => {
  const made = await api('POST', '/v1/jobs', { operation: SCALE, inputs: { image: { url: 'http://127.0.0.1:9/none.jpg' } } });
  assert.equal(made.status, 202);
  return made.body;
};

test('an activated workflow starts with each event, and a deactivated one has left nothing behind', async (t) => {
  const made = await active(t);
  assert.equal(await checkExists.call(made), true);
  const { hookId } = made.staticData;
  const job = await something();
  const { workflowData } = await delivered(TYPE, made, await delivery());
  const [[{ json: event }]] = workflowData;
  assert.deepEqual([event.type, event.job_id, event.object], ['job.queued', job.id, 'job']);
  assert.equal(made.answer.code, undefined);

  assert.equal(await remove.call(made), true);
  assert.equal((await api('GET', `/v1/hooks/${hookId}`)).status, 404);
  assert.deepEqual([made.staticData.hookId, made.staticData.secret], [undefined, undefined]);
  assert.equal(await checkExists.call(made), false);
  assert.equal(await remove.call(made), true, 'twice does no harm');
});

test('what is changed, late, or signed by nobody is refused and starts nothing', async (t) => {
  const made = await active(t);
  await something();
  const real = await delivery();
  const now = Math.floor(Date.now() / 1000);
  const signed = (time, body = real.rawBody, secret = made.staticData.secret) => {
    const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
    const mac = createHmac('sha256', key).update(`evt_1.${time}.`).update(body).digest('base64');
    return { headers: { 'webhook-id': 'evt_1', 'webhook-timestamp': String(time), 'webhook-signature': `v1,${mac}` }, rawBody: body };
  };
  const cases = {
    'another body': { ...real, rawBody: Buffer.concat([real.rawBody, Buffer.from(' ')]) },
    'the same JSON, written anew': { ...real, rawBody: Buffer.from(JSON.stringify(JSON.parse(real.rawBody), null, 1)) },
    'another id': { ...real, headers: { ...real.headers, 'webhook-id': 'evt_2' } },
    'no signature': { ...real, headers: {} },
    'an empty signature': { ...real, headers: { ...real.headers, 'webhook-signature': 'v1,' } },
    'six minutes old': signed(now - 360),
    'six minutes early': signed(now + 360),
    'another secret': signed(now, real.rawBody, `whsec_${Buffer.alloc(32).toString('base64')}`),
    'no body': { ...real, rawBody: undefined },
  };
  for (const [name, request] of Object.entries(cases)) {
    assert.deepEqual(await delivered(TYPE, made, request), { noWebhookResponse: true }, name);
    assert.equal(made.answer.code, 401, name);
  }
  assert.ok((await delivered(TYPE, made, signed(now - 240))).workflowData, 'a slow network is no fault');
  assert.ok((await delivered(TYPE, made, real)).workflowData);
  const unknown = context(TYPE, {}, { webhookUrl });
  assert.deepEqual(await delivered(TYPE, unknown, real), { noWebhookResponse: true }, 'nothing was subscribed to');
});

test('the known vector of Standard Webhooks', () => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', time = 1614265330, body = Buffer.from('{"test": 2432232314}');
  const headers = {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek', 'webhook-timestamp': String(time),
    'webhook-signature': 'v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  };
  assert.equal(isSigned(secret, headers, body, time + 299), true);
  assert.equal(isSigned(secret, headers, body, time + 301), false);
});

test('a secret that is rotated is asked for, but not for every wrong signature', async (t) => {
  const made = await active(t);
  const { hookId, secret: old } = made.staticData;
  assert.equal((await api('POST', `/v1/endpoints/${hookId}/rotate-secret`, { overlap_seconds: 0 })).status, 200);
  await something();
  const real = await delivery();
  assert.ok((await delivered(TYPE, made, real)).noWebhookResponse, 'asked a moment ago');
  assert.equal(made.staticData.secret, old);
  made.staticData.askedAt -= 61;
  assert.ok((await delivered(TYPE, made, real)).workflowData);
  assert.notEqual(made.staticData.secret, old);
});

test('a hook that is gone is subscribed to anew, one that does not fit any more is given back', async (t) => {
  const made = await active(t);
  const first = made.staticData.hookId;
  await api('DELETE', `/v1/hooks/${first}`);
  assert.equal(await checkExists.call(made), false);
  assert.equal(await create.call(made), true);
  const second = made.staticData.hookId;
  assert.notEqual(second, first);

  // The same workflow after its events were edited, and after n8n has moved.
  for (const [parameters, url] of [[{ events: ['job.failed'] }, webhookUrl], [{ events: ['job.queued'] }, `${webhookUrl}2`]]) {
    const edited = context(TYPE, parameters, { webhookUrl: url });
    Object.assign(edited.staticData, { hookId: second });
    const before = (await api('GET', `/v1/hooks/${second}`)).status;
    assert.equal(await checkExists.call(edited), false);
    if (before === 200) assert.equal((await api('GET', `/v1/hooks/${second}`)).status, 404);
  }
});

test('a workflow for one operation hears of no other', async (t) => {
  const made = await active(t, { events: ['job.queued'], operation: 'picwish/segmentation', format: 'standard' });
  await something();
  const wanted = await api('POST', '/v1/jobs', { operation: 'picwish/segmentation', inputs: { image: { url: 'http://127.0.0.1:9/none.jpg' } } });
  const [[{ json: event }]] = (await delivered(TYPE, made, await delivery())).workflowData;
  assert.deepEqual([event.data.id, event.data.operation], [wanted.body.id, 'picwish/segmentation']);
});

test('a test message arrives and starts nothing', async (t) => {
  const made = await active(t, { events: ['*'] });
  assert.equal((await api('POST', `/v1/endpoints/${made.staticData.hookId}/test`)).body.delivered, true);
  const told = await delivered(TYPE, made, await delivery());
  assert.deepEqual([told.workflowData, made.answer.code], [undefined, undefined]);
});

test('a service that refuses says why when the workflow is activated', async () => {
  const made = context(TYPE, { events: ['job.done', 'job.queued'] }, { webhookUrl: 'ftp://n8n.example/' });
  await assert.rejects(create.call(made), (error) => {
    assert.equal(error.httpCode, '422');
    assert.match(error.description, /hookUrl: .*\n?.*events\.0: /s);
    return true;
  });
  const stranger = context(TYPE, {}, { webhookUrl, credentials: { baseUrl: process.env.WIREPHOTO_URL, apiKey: 'wp_nobody' } });
  await assert.rejects(create.call(stranger), { httpCode: '401' });
});
