// An OpenID provider on a free port of this machine, for the tests beside this file. It is the real one; what it gets
// wrong on demand (slow, huge, cut short, another issuer's) is done to its answers, in front of it.
//
// Standard input: one JSON object, the settings, and then one command a line. Standard output: one JSON object a line:
// where it listens, and then one for each command that was carried out. It ends when its input does.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { Provider } from 'oidc-provider';

const AUDIENCE = 'https://forestall.example';

console.info = console.error; // its notices; standard output is for what this program answers

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const settings = JSON.parse((await lines.next()).value);
const counts = {};
const waiting = new Set();
let issuer;
let answer;
let mode = 'good';
let other;

const provide = (name, keys) => {
  const provider = new Provider(name, {
    jwks: { keys },
    clients: [
      {
        client_id: 'billing-agent',
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [settings.client_key] },
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_signing_alg: settings.client_key.alg,
      },
      {
        client_id: 'front-end',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code'],
        redirect_uris: ['https://front-end.example/callback'],
        response_types: ['code'],
      },
    ],
    enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_ctx, resource) => ({
          scope: 'identity',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: settings.algorithm } },
        }),
      },
    },
    formats: {
      customizers: {
        // asked for with the scope `identity`, its tokens say who a workload is, and call themselves plain JWTs
        jwt: (_ctx, token, parts) => {
          if (token.scope === 'identity') parts.header = { typ: 'JWT' };
        },
      },
    },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    cookies: { keys: ['only for tests'] },
    ttl: { Interaction: 600, Session: 600, Grant: 600, IdToken: 600, AuthorizationCode: 60, ClientCredentials: 600 },
  });
  return provider.callback();
};

const modes = {
  good: (request, response) => answer(request, response),
  silent: () => {}, // nothing comes, and the connection stays
  held: (request, response) => waiting.add([request, response]), // until another mode is set, and then by that one
  drip: (_request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json' });
    const timer = setInterval(() => response.write(' '), 20);
    response.on('close', () => clearInterval(timer));
  },
  huge: (_request, response) => response.end(Buffer.alloc(2_000_000, 0x20)),
  'not-json': (_request, response) => response.end('<html>maintenance</html>'),
  short: (_request, response) => {
    response.writeHead(200, { 'Content-Length': '4000' });
    response.write('{"issuer":', () => response.destroy());
  },
  moved: (_request, response) => response.writeHead(302, { Location: `${other}/elsewhere` }).end(),
  'wrong-issuer': (request, response) => provide('http://127.0.0.1:1', settings.keys)(request, response),
  duplicate: (_request, response) => response.end(`{"issuer":"${issuer}","issuer":"${issuer}","jwks_uri":"${issuer}/jwks"}`),
  private: (request, response) => (request.url === '/jwks' ? response.end(JSON.stringify({ keys: settings.keys })) : answer(request, response)),
  empty: (request, response) => (request.url === '/jwks' ? response.end('{"keys":[]}') : answer(request, response)),
};

const server = createServer((request, response) => {
  counts[request.url] = (counts[request.url] ?? 0) + 1;
  modes[mode](request, response);
});
await new Promise((listening) => { server.listen(settings.port, '127.0.0.1', listening); });
issuer = `http://127.0.0.1:${server.address().port}`;
other = `http://localhost:${server.address().port}`;
answer = provide(issuer, settings.keys);
say({ issuer, audience: AUDIENCE });

const commands = {
  reset: ({ keys }) => {
    for (const path of Object.keys(counts)) delete counts[path];
    commands.mode({ name: 'good' });
    return commands.keys({ keys });
  },
  keys: ({ keys }) => { settings.keys = keys; answer = provide(issuer, keys); return {}; },
  mode: ({ name }) => {
    if (!(name in modes)) throw new Error(`no such mode: ${name}`);
    mode = name;
    for (const [request, response] of waiting) modes[mode](request, response);
    waiting.clear();
    return {};
  },
  counts: () => counts,
};
for await (const line of lines) {
  const command = JSON.parse(line);
  say(commands[command.do](command));
}
process.exit(0);
