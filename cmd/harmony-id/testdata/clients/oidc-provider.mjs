// An OpenID provider that is not ours, in Google's place: oidc-provider, the certified
// one of Node. It is driven by lines of JSON: first its own address and its client, to
// which it answers when it listens, then the claims of whoever sits in front of it from
// now on, who agrees to everything. And so on, until stdin ends.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Provider, interactionPolicy } from "oidc-provider";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => {
  const line = await lines.next();
  return line.done ? undefined : JSON.parse(line.value);
};
const key = (alg, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  alg,
  use: "sig",
});

const { issuer, ...client } = await next();
const people = new Map();
let somebody; // who sits in front of it

const policy = interactionPolicy.base();
policy.add(new interactionPolicy.Prompt({ name: "select_account", requestable: true }), 0);

const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys: [key("RS256", "rsa", { modulusLength: 2048 }), key("ES256", "ec", { namedCurve: "P-256" })] },
  cookies: { keys: ["a key of this run"] },
  claims: { email: ["email", "email_verified"], profile: ["name"] },
  features: { devInteractions: { enabled: false } },
  interactions: { policy, url: (_, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 300, Grant: 300, IdToken: 300, Interaction: 300, Session: 300 },
  findAccount: (_, accountId) => ({ accountId, claims: () => people.get(accountId) }),
});

async function agree(req, res) {
  const { prompt, params, session } = await provider.interactionDetails(req, res);
  if (prompt.name !== "consent") {
    const login = { accountId: somebody };
    return provider.interactionFinished(req, res, { select_account: {}, login });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(req, res, { consent }, { mergeWithLastSubmission: true });
}

const rest = provider.callback();
const server = createServer((req, res) => {
  if (!req.url.startsWith("/interaction/")) {
    rest(req, res);
    return;
  }
  agree(req, res).catch((error) => {
    console.error(error);
    res.writeHead(500).end();
  });
});
const { hostname, port } = new URL(issuer);
server.listen(Number(port), hostname, async () => {
  console.log("{}");
  for (let person; (person = await next()); ) {
    somebody = person.sub;
    people.set(somebody, person);
    console.log("{}");
  }
  server.closeAllConnections();
  server.close();
});
