// Standard Webhooks, as Wirephoto signs: over `{id}.{timestamp}.{raw body}`.
const { createHmac, timingSafeEqual } = require('crypto');

const TOLERANCE_SECONDS = 300;

/**
 * Whether one of the signatures fits, and the message is no older (and no younger) than five minutes.
 *
 * @param {string} secret  `whsec_…`
 * @param {import('http').IncomingHttpHeaders} headers
 * @param {Buffer} rawBody  The bytes as they came, before any parser touched them
 * @param {number} now  In seconds
 */
const isSigned = (secret, headers, rawBody, now) => {
  const id = headers['webhook-id'], time = headers['webhook-timestamp'], listed = headers['webhook-signature'];
  if (typeof id !== 'string' || typeof time !== 'string' || typeof listed !== 'string') return false;
  if (!/^\d{1,12}$/.test(time) || Math.abs(now - Number(time)) > TOLERANCE_SECONDS) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const mine = createHmac('sha256', key).update(`${id}.${time}.`).update(rawBody).digest();
  return listed.split(' ').some((entry) => {
    const [version, signature = ''] = entry.split(',');
    const theirs = Buffer.from(signature, 'base64');
    return version === 'v1' && theirs.length === mine.length && timingSafeEqual(theirs, mine);
  });
};

module.exports = { isSigned };
