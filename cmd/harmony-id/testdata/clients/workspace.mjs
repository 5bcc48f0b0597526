import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";
import * as client from "openid-client";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, APP_URL } = process.env;
const config = await client.discovery(
  new URL(ISSUER),
  CLIENT_ID,
  { id_token_signed_response_alg: "ES256" }, // the library would expect RS256
  client.ClientSecretBasic(CLIENT_SECRET),
  { execute: [client.enableNonRepudiationChecks] }, // look at signatures, too
);
const provider = config.serverMetadata();
const keys = createRemoteJWKSet(new URL(provider.jwks_uri));

const began = new Map(); // sign-ins that have not come back, by cookie
const sessions = new Map(); // people who are signed in, by cookie

const flags = `Path=/; HttpOnly; SameSite=Lax${APP_URL.startsWith("https:") ? "; Secure" : ""}`;
const cookie = (req, name) => req.headers.cookie?.match(`(?:^|; )${name}=([^;]+)`)?.[1];
const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const page = (res, status, body) =>
  res.writeHead(status, { "Content-Type": "text/html; charset=utf-8" }).end(body);
const lead = (res, to, ...cookies) => res.writeHead(303, { Location: to, "Set-Cookie": cookies }).end();

async function body(req) {
  let text = "";
  for await (const chunk of req) if ((text += chunk).length > 20_000) throw new Error("too long a form");
  return new URLSearchParams(text);
}

// fresh has an access token that lasts a while, or undefined if the person is signed out.
async function fresh(id) {
  const s = sessions.get(id);
  if (!s || s.tokens.expiresIn() > 10) return s;
  try {
    const tokens = await client.refreshTokenGrant(config, s.tokens.refresh_token);
    s.tokens = { ...tokens, expiresIn: () => tokens.expiresIn() };
    return sessions.get(id);
  } catch (error) {
    if (error.error !== "invalid_grant") throw error; // it may work in a minute
    sessions.delete(id); // the session at Harmony has ended
  }
}

const routes = {
  async "GET /"(req, res) {
    const s = await fresh(cookie(req, "session"));
    if (!s) return page(res, 200, `<p>Nobody is signed in. <a href="/sign-in">Sign in</a>`);
    const person = await client.fetchUserInfo(config, s.tokens.access_token, s.sub);
    page(res, 200, `<p>Signed in: ${escape(person.name)}, ${escape(person.email)}, ${escape(s.acr)}
      <form method="post" action="/sign-out"><button>Sign out</button></form>`);
  },

  async "GET /sign-in"(req, res) {
    const id = randomUUID();
    const pkceCodeVerifier = client.randomPKCECodeVerifier();
    const expectedState = client.randomState();
    const expectedNonce = client.randomNonce();
    began.set(id, { pkceCodeVerifier, expectedState, expectedNonce });
    setTimeout(() => began.delete(id), 600_000).unref();
    const to = client.buildAuthorizationUrl(config, {
      redirect_uri: `${APP_URL}/callback`,
      scope: "openid profile email offline_access",
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: "S256",
      state: expectedState,
      nonce: expectedNonce,
    });
    lead(res, to.href, `began=${id}; Max-Age=600; ${flags}`);
  },

  async "GET /callback"(req, res, url) {
    const begun = began.get(cookie(req, "began"));
    if (!begun) return page(res, 400, "This sign-in was not begun in this browser.");
    began.delete(cookie(req, "began"));
    // It checks state, iss, PKCE, and of the ID token signature, iss, aud, exp and nonce.
    const tokens = await client.authorizationCodeGrant(config, url, { ...begun, idTokenExpected: true });
    const { sub, sid, acr } = tokens.claims();
    const id = randomUUID(); // a new one each time: nobody knows it from before
    sessions.set(id, { sub, sid, acr, tokens, idToken: tokens.id_token });
    lead(res, "/", `session=${id}; ${flags}`, `began=; Max-Age=0; ${flags}`);
  },

  async "POST /sign-out"(req, res) {
    const s = sessions.get(cookie(req, "session"));
    sessions.delete(cookie(req, "session"));
    const to = client.buildEndSessionUrl(config, {
      post_logout_redirect_uri: `${APP_URL}/`,
      ...(s && { id_token_hint: s.idToken }), // without it the person is asked
    });
    lead(res, to.href, `session=; Max-Age=0; ${flags}`);
  },

  async "POST /backchannel-logout"(req, res) {
    let claims;
    try {
      ({ payload: claims } = await jwtVerify((await body(req)).get("logout_token") ?? "", keys, {
        issuer: provider.issuer,
        audience: CLIENT_ID,
        typ: "logout+jwt",
        maxTokenAge: "5 minutes",
        requiredClaims: ["sub", "sid", "jti", "exp"],
      }));
      if (!claims.events?.["http://schemas.openid.net/event/backchannel-logout"] || "nonce" in claims) {
        throw new Error("not about a logout");
      }
    } catch (error) {
      return page(res, 400, escape(error.message));
    }
    for (const [id, s] of sessions) if (s.sub === claims.sub && s.sid === claims.sid) sessions.delete(id);
    res.writeHead(200, { "Cache-Control": "no-store" }).end();
  },
};

const { hostname, port } = new URL(APP_URL);
createServer(async (req, res) => {
  const url = new URL(req.url, APP_URL);
  try {
    const route = routes[`${req.method} ${url.pathname}`];
    await (route ? route(req, res, url) : page(res, 404, "There is no such page."));
  } catch (error) {
    console.error(error); // what it is, is for you: error.error and error.error_description
    page(res, 400, `That did not work: ${escape(error.error ?? "error")}. <a href="/">Back</a>`);
  }
}).listen(Number(port), hostname, () => console.log("listens"));
