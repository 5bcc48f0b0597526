// A workspace written with openid-client, as its manual has it. It is driven by
// lines of JSON: first the registration of a workspace, to which it answers with
// the address that signs a person in, then the address that the person came back
// to, to which it answers with what it received. And so on, until stdin ends.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const authentication = {
  client_secret_basic: client.ClientSecretBasic,
  client_secret_post: client.ClientSecretPost,
  none: client.None,
};

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (answer) => console.log(JSON.stringify(answer));

for (let line; !(line = await lines.next()).done; ) {
  const rp = JSON.parse(line.value);
  const config = await client.discovery(
    new URL(rp.issuer),
    rp.client_id,
    { id_token_signed_response_alg: rp.id_token_signed_response_alg },
    authentication[rp.token_endpoint_auth_method](rp.client_secret),
    { execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks] },
  );
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const expectedNonce = client.randomNonce();
  // With dpop its requests are pushed (RFC 9126) and its tokens bound to a key (RFC 9449).
  const DPoP = rp.dpop ? client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256")) : undefined;
  const request = {
    redirect_uri: rp.redirect_uri,
    scope: "openid profile email offline_access",
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    state: expectedState,
    nonce: expectedNonce,
  };
  const authorize = rp.dpop
    ? await client.buildAuthorizationUrlWithPAR(config, request, { DPoP })
    : client.buildAuthorizationUrl(config, request);
  say({ authorize });

  const callback = new URL(JSON.parse((await lines.next()).value).callback);
  const checks = { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true };
  const first = await client.authorizationCodeGrant(config, callback, checks, undefined, { DPoP });
  const claims = first.claims();
  const userinfo = await client.fetchUserInfo(config, first.access_token, claims.sub, { DPoP });
  const second = await client.refreshTokenGrant(config, first.refresh_token, undefined, { DPoP });
  const userinfoAgain = await client.fetchUserInfo(config, second.access_token, claims.sub, { DPoP });
  say({
    claims,
    userinfo,
    refreshed: second.claims(),
    userinfoAgain,
    type: first.token_type,
    renewed: second.access_token !== first.access_token,
    header: JSON.parse(Buffer.from(first.id_token.split(".")[0], "base64url")),
  });
}
