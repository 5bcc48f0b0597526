// A workspace written with oauth4webapi, step by step. It is driven as
// openid-client.mjs is, and answers the same.
import { createInterface } from "node:readline";
import * as oauth from "oauth4webapi";

const authentication = {
  client_secret_basic: oauth.ClientSecretBasic,
  client_secret_post: oauth.ClientSecretPost,
  none: oauth.None,
};
const plain = { [oauth.allowInsecureRequests]: true };

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (answer) => console.log(JSON.stringify(answer));

for (let line; !(line = await lines.next()).done; ) {
  const rp = JSON.parse(line.value);
  const issuer = new URL(rp.issuer);
  const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, plain));
  const client = { client_id: rp.client_id, id_token_signed_response_alg: rp.id_token_signed_response_alg };
  const auth = authentication[rp.token_endpoint_auth_method](rp.client_secret);
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const nonce = oauth.generateRandomNonce();
  // With dpop its requests are pushed (RFC 9126) and its tokens bound to a key (RFC 9449).
  const DPoP = rp.dpop ? oauth.DPoP(client, await oauth.generateKeyPair("ES256")) : undefined;
  const options = { ...plain, DPoP };
  let request = {
    client_id: rp.client_id,
    redirect_uri: rp.redirect_uri,
    response_type: "code",
    scope: "openid profile email offline_access",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    max_age: "3600",
    state,
    nonce,
  };
  if (rp.dpop) {
    const pushed = await oauth.pushedAuthorizationRequest(as, client, auth, request, options);
    const { request_uri } = await oauth.processPushedAuthorizationResponse(as, client, pushed);
    request = { client_id: rp.client_id, request_uri };
  }
  const authorize = new URL(as.authorization_endpoint);
  authorize.search = new URLSearchParams(request);
  say({ authorize });

  const callback = new URL(JSON.parse((await lines.next()).value).callback);
  const params = oauth.validateAuthResponse(as, client, callback, state); // with iss (RFC 9207)
  const answer = await oauth.authorizationCodeGrantRequest(as, client, auth, params, rp.redirect_uri, verifier, options);
  const first = await oauth.processAuthorizationCodeResponse(as, client, answer, {
    expectedNonce: nonce,
    maxAge: 3600,
    requireIdToken: true,
  });
  await oauth.validateApplicationLevelSignature(as, answer, plain);
  const claims = oauth.getValidatedIdTokenClaims(first);
  const about = async ({ access_token }) =>
    oauth.processUserInfoResponse(as, client, claims.sub, await oauth.userInfoRequest(as, client, access_token, options));
  const userinfo = await about(first);
  const again = await oauth.refreshTokenGrantRequest(as, client, auth, first.refresh_token, options);
  const second = await oauth.processRefreshTokenResponse(as, client, again);
  await oauth.validateApplicationLevelSignature(as, again, plain);
  say({
    claims,
    userinfo,
    refreshed: oauth.getValidatedIdTokenClaims(second),
    userinfoAgain: await about(second),
    type: first.token_type,
    renewed: second.access_token !== first.access_token,
    header: JSON.parse(Buffer.from(first.id_token.split(".")[0], "base64url")),
  });
}
