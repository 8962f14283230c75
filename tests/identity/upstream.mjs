// The authorization server of somebody else's system, on a free port of this machine: the real oidc-provider, with
// token exchange and jwt-bearer as its custom grants. It trusts Forestall's words about tasks by Forestall's keys.
//
// Standard input: one JSON object, the settings, and then one command a line. Standard output: one JSON object a line:
// where it listens, and then one for each command that was carried out. It ends when its input does.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { SignJWT, createLocalJWKSet, importJWK, jwtVerify } from 'jose';
import { Provider, errors } from 'oidc-provider';

const CRM = 'https://crm.example';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TYPE = 'urn:ietf:params:oauth:token-type:';

console.info = console.error; // its notices; standard output is for what this program answers

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const settings = JSON.parse((await lines.next()).value);
const now = { nonce: false, ttl: 40, format: 'opaque', refresh: false };
const words = createLocalJWKSet(settings.forestall);
const spoken = new WeakMap(); // what we heard of the task that a token is for
let callback;

const server = createServer((request, response) => callback(request, response));
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const issuer = `http://127.0.0.1:${server.address().port}`;

const client = (id, more) => ({ client_id: id, redirect_uris: [], response_types: [], id_token_signed_response_alg: 'ES256', authorization_details_types: ['account'], ...more });
const provider = new Provider(issuer, {
  jwks: { keys: settings.keys },
  clients: [
    client('forestall', {
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [settings.client_key] },
      grant_types: ['client_credentials', EXCHANGE, BEARER],
    }),
    client('forestall secret', {
      token_endpoint_auth_method: 'client_secret_basic',
      client_secret: settings.secret,
      grant_types: ['client_credentials'],
    }),
    client('crm', {
      token_endpoint_auth_method: 'client_secret_basic',
      client_secret: settings.secret,
      grant_types: ['client_credentials'],
    }),
  ],
  enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    revocation: { enabled: true, allowedPolicy: (_ctx, who, token) => who.clientId === token.clientId },
    introspection: {
      enabled: true,
      allowedPolicy: (_ctx, who, token) => who.clientId === token.clientId || who.clientId === 'crm',
    },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => now.nonce },
    richAuthorizationRequests: {
      enabled: true,
      types: { account: { validate: () => {} } },
      authorizationDetailsForGrantSource: () => undefined,
      authorizationDetailsForAccessToken: (ctx) => JSON.parse(ctx.oidc.params.authorization_details),
      authorizationDetailsForIntrospection: (_ctx, token) => token.rar,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => CRM,
      getResourceServerInfo: (_ctx, resource) => {
        if (resource !== CRM) throw new errors.InvalidTarget();
        return {
          scope: 'crm.read crm.write', audience: CRM, accessTokenFormat: now.format, accessTokenTTL: now.ttl, jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
  extraTokenClaims: (_ctx, token) => spoken.get(token),
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  cookies: { keys: ['only for tests'] },
  ttl: { Grant: 600, AccessToken: () => now.ttl, ClientCredentials: () => now.ttl, RefreshToken: 600 },
});

// whose words they are, for us, and not yet heard
const hear = async (ctx, token, typ) => {
  try {
    const { payload } = await jwtVerify(token, words, { issuer: settings.forestall_issuer, audience: issuer, typ, requiredClaims: ['sub', 'jti', 'exp', 'iat'] });
    ctx.assert(await provider.ReplayDetection.unique('words', payload.jti, payload.exp), new Error('heard before'));
    return payload;
  } catch (cause) {
    throw new errors.InvalidGrant('not Forestall\'s word', { cause });
  }
};

// a token for the user, who acts through whom Forestall says
const give = async (ctx, payload, issuedTokenType, helpers) => {
  const { client: who, params } = ctx.oidc;
  const dPoP = await helpers.validateDpop(ctx);
  const [resource] = await helpers.resolveRequestedResources(ctx);
  const allowed = payload.scope === undefined ? params.scope : payload.scope;
  const scope = (params.scope ?? '').split(' ').filter((each) => allowed.split(' ').includes(each) && resource.scope.split(' ').includes(each)).join(' ');
  const grant = new provider.Grant({ accountId: payload.sub, clientId: who.clientId });
  grant.addResourceScope(CRM, scope);
  const grantId = await grant.save();
  const shared = { accountId: payload.sub, client: who, grantId, gty: params.grant_type, scope };
  const token = new provider.AccessToken(shared);
  spoken.set(token, { act: payload.act, task: payload.task });
  token.resourceServer = resource;
  if (dPoP) token.setThumbprint('jkt', dPoP.thumbprint);
  await helpers.applyAuthorizationDetails(ctx, token);
  ctx.oidc.entity('AccessToken', token);
  const refresh = now.refresh ? { refreshToken: await new provider.RefreshToken({ ...shared, resource: CRM, rotations: 0 }).save() } : {};
  ctx.body = helpers.buildTokenResponse({
    accessToken: await token.save(), authorizationDetails: token.rar, expiresIn: token.expiration, issuedTokenType, scope, tokenType: token.tokenType, ...refresh,
  });
};

const register = (name, parameters, handler) => {
  const more = [...parameters, 'scope', 'resource', 'audience', 'authorization_details'];
  provider.registerGrantType(name, handler, more, ['resource', 'audience']);
};
callback = provider.callback();
const helpers = await import('oidc-provider/lib/helpers/grants.js').then((all) => Object.fromEntries(Object.entries(all).map(([name, helper]) => [name, helper.bind(undefined, provider)])));

register(EXCHANGE, ['subject_token', 'subject_token_type', 'requested_token_type'], async (ctx) => {
  const { params } = ctx.oidc;
  if (params.subject_token_type !== `${TYPE}jwt`) throw new errors.InvalidRequest('a subject token of another type');
  const payload = await hear(ctx, params.subject_token, 'task-assertion+jwt');
  if (params.requested_token_type !== `${TYPE}id-jag`) {
    await give(ctx, payload, `${TYPE}access_token`, helpers);
    return;
  }
  const [own] = settings.keys;
  const id = { sub: payload.sub, act: payload.act, client_id: ctx.oidc.client.clientId, scope: params.scope, resource: params.resource };
  const signing = new SignJWT(id).setProtectedHeader({ alg: own.alg, kid: own.kid, typ: 'oauth-id-jag+jwt' });
  signing.setIssuer(issuer).setAudience(params.audience).setJti(randomUUID()).setIssuedAt().setExpirationTime('5m');
  ctx.body = {
    access_token: await signing.sign(await importJWK(own)), issued_token_type: params.requested_token_type, token_type: 'N_A', expires_in: 300,
  };
});
register(BEARER, ['assertion'], async (ctx) => {
  const payload = await hear(ctx, ctx.oidc.params.assertion, 'oauth-id-jag+jwt');
  if (payload.client_id !== ctx.oidc.client.clientId) throw new errors.InvalidGrant('for another client');
  await give(ctx, payload, undefined, helpers);
});

say({ issuer });
for await (const line of lines) {
  Object.assign(now, JSON.parse(line));
  say(now);
}
process.exit(0);
