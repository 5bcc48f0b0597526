import { UserManager } from "oidc-client-ts";

const { issuer, client_id } = await (await fetch("/settings.json")).json();
const manager = new UserManager({
  authority: issuer,
  client_id,
  redirect_uri: `${location.origin}/callback`,
  post_logout_redirect_uri: `${location.origin}/`,
  scope: "openid profile email offline_access", // renewed by refresh token: hidden frames stay empty
  loadUserInfo: true, // the ID token has neither name nor address
  filterProtocolClaims: ["nonce", "at_hash"], // and keep acr, amr and auth_time
});

const find = (id) => document.getElementById(id);

// show says who is signed in.
function show(user) {
  const { name, email, acr } = user?.profile ?? {};
  find("who").textContent = user ? `Signed in: ${name}, ${email}, ${acr}` : "Nobody is signed in.";
  find("sign-in").hidden = Boolean(user);
  find("sign-out").hidden = !user;
}

// notRenewed forgets the person if their session at Harmony has ended. Other errors may be gone in a minute.
async function notRenewed(error) {
  console.info(error.error ?? error.message, error.error_description ?? "");
  if (error.error === "invalid_grant") await manager.removeUser();
}

manager.events.addUserLoaded(show);
manager.events.addUserUnloaded(() => show(null));
manager.events.addSilentRenewError(notRenewed);
manager.events.addAccessTokenExpired(() => manager.signinSilent().catch(notRenewed)); // once more
find("sign-in").onclick = () => manager.signinRedirect({ nonce: crypto.randomUUID() });
find("sign-out").onclick = () => manager.signoutRedirect(); // with the ID token: nothing is asked

let user = await manager.getUser(); // of this tab: what it keeps is in sessionStorage
if (location.pathname === "/callback") {
  try {
    user = await manager.signinCallback(); // checks state, PKCE and nonce; for the rest it trusts TLS
  } catch (error) {
    console.warn(error.error ?? error.message, error.error_description ?? "");
  }
} else if (user?.expired) {
  user = await manager.signinSilent().catch(notRenewed);
}
history.replaceState(null, "", "/"); // the code is spent
show(user);
