// Somebody else's resource server, on a free port of this machine, before a server of HTTP that knows of no tokens. It
// takes tokens of the real oidc-provider alone, as RFC 9449, 4.3 and 7 have it, and asks that server about each.
//
// Standard input: one JSON object, the settings (`issuer`, `secret` for introspection, `target`), and then one command
// a line (`nonce`: demand this one; `open`: what has no token passes). Standard output: one JSON object a line: where it listens, and then one for each
// command: what was looked at since the last. It ends when its input does.

import { createHash } from 'node:crypto';
import { createServer, request as ask } from 'node:http';
import { createInterface } from 'node:readline';

import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from 'jose';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const settings = JSON.parse((await lines.next()).value);
const now = { nonce: null, open: false };
const used = new Set();
let seen = [];

class No extends Error {}
const must = (holds, why) => { if (!holds) throw new No(why); };

const told = async (token) => {
  const pair = Buffer.from(`crm:${encodeURIComponent(settings.secret)}`).toString('base64');
  const answer = await fetch(`${settings.issuer}/token/introspection`, {
    method: 'POST', headers: { authorization: `Basic ${pair}` }, body: new URLSearchParams({ token }),
  });
  return answer.json();
};

const require = async (request) => {
  if (now.open && request.headers.authorization === undefined && request.headers.dpop === undefined) return;
  const [scheme, token, more] = (request.headers.authorization ?? '').split(' ');
  must(token && more === undefined, 'no token');
  const { active, cnf, scope } = await told(token);
  must(active && scope.split(' ').includes('crm.read'), 'a token that does not count');
  must(scheme === (cnf?.jkt ? 'DPoP' : 'Bearer'), `under the scheme ${scheme}`);
  if (!cnf?.jkt) return;
  const proofs = request.rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'dpop');
  must(proofs.length === 1, `${proofs.length} proofs`);
  const { payload, protectedHeader } = await jwtVerify(request.headers.dpop, EmbeddedJWK, { typ: 'dpop+jwt', algorithms: ['ES256'] }).catch((error) => { throw new No(error.message); });
  must(protectedHeader.jwk.d === undefined, 'a private key');
  must(await calculateJwkThumbprint(protectedHeader.jwk) === cnf.jkt, 'another key');
  must(payload.htm === request.method, 'another method');
  must(payload.htu === `http://${request.headers.host}${request.url.split('?')[0]}`, 'another url');
  must(payload.ath === createHash('sha256').update(token).digest('base64url'), 'another token');
  must(Math.abs(Date.now() / 1000 - payload.iat) < 60, 'another time');
  must(now.nonce === null || payload.nonce === now.nonce, 'nonce');
  must(!used.has(payload.jti), 'used before');
  used.add(payload.jti);
};

const server = createServer(async (request, response) => {
  const body = [];
  for await (const chunk of request) body.push(chunk);
  const note = { verb: request.method, authorization: request.headers.authorization ?? null, dpop: request.headers.dpop ?? null, why: '' };
  try {
    await require(request);
  } catch (error) {
    note.why = error instanceof No ? error.message : `broken: ${error.stack}`;
    const code = note.why === 'nonce' ? 'use_dpop_nonce' : 'invalid_token';
    response.writeHead(401, {
      'www-authenticate': `DPoP algs="ES256", error="${code}"`, ...(now.nonce === null ? {} : { 'dpop-nonce': now.nonce }),
    }).end();
    return;
  } finally {
    seen.push(note);
  }
  const { dpop, authorization, connection, ...headers } = request.headers;
  const inner = ask(`${settings.target}${request.url}`, { method: request.method, headers: { ...headers, host: new URL(settings.target).host } }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  inner.on('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  response.on('close', () => inner.destroy());
  inner.end(Buffer.concat(body));
});
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });

say({ url: `http://127.0.0.1:${server.address().port}` });
for await (const line of lines) {
  Object.assign(now, JSON.parse(line));
  say(seen);
  seen = [];
}
process.exit(0);
