import os
import secrets
import time

from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from authlib.jose import JsonWebKey, JsonWebToken
from authlib.jose.errors import JoseError
from flask import Flask, redirect, render_template_string, request, session
from urllib.parse import urlencode, urlsplit

ISSUER, APP_URL = os.environ["ISSUER"], os.environ["APP_URL"]
CLIENT_ID = os.environ["CLIENT_ID"]

app = Flask(__name__)
app.secret_key = secrets.token_bytes(32)  # of its cookies
app.config.update(
    SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_SECURE=APP_URL.startswith("https:")
)
harmony = OAuth(app).register(
    "harmony",
    client_id=CLIENT_ID,
    client_secret=os.environ["CLIENT_SECRET"],
    server_metadata_url=ISSUER + "/.well-known/openid-configuration",
    client_kwargs={
        "scope": "openid profile email offline_access",
        "code_challenge_method": "S256",
    },
)
people = {}  # who is signed in, by what their cookie has


def fresh():
    """Somebody with an access token that lasts a while, or None."""
    person = people.get(session.get("id"))
    if person and person["token"]["expires_at"] - time.time() <= 10:
        try:
            person["token"] = harmony.fetch_access_token(
                grant_type="refresh_token", refresh_token=person["token"]["refresh_token"]
            )
        except OAuthError as error:
            if error.error != "invalid_grant":
                raise  # it may work in a minute
            people.pop(session.pop("id"), None)  # the session at Harmony has ended
            return None
    return person


@app.get("/")
def home():
    person = fresh()
    if not person:
        return 'Nobody is signed in. <a href="/sign-in">Sign in</a>'
    info = harmony.userinfo(token=person["token"])
    if info["sub"] != person["sub"]:
        return "userinfo is about somebody else", 502
    return render_template_string(
        """<p>Signed in: {{ info.name }}, {{ info.email }}, {{ acr }}
        <form method="post" action="/sign-out"><button>Sign out</button></form>""",
        info=info,
        acr=person["acr"],
    )


@app.get("/sign-in")
def sign_in():
    return harmony.authorize_redirect(APP_URL + "/callback")


@app.get("/callback")
def callback():
    if request.args.get("iss") != ISSUER:  # RFC 9207; Authlib leaves it to you
        return "The answer is from somebody else.", 400
    try:
        # It checks state and PKCE, and of the ID token signature, iss, aud, exp and nonce.
        token = harmony.authorize_access_token()
    except (OAuthError, JoseError) as error:
        app.logger.warning("sign-in: %s", error)
        return f'That did not work: {error.error}. <a href="/">Back</a>', 400
    claims = token["userinfo"]  # of the ID token
    session.clear()
    session["id"] = secrets.token_urlsafe(32)
    people[session["id"]] = {k: claims[k] for k in ("sub", "sid", "acr")} | {"token": token}
    return redirect("/")


@app.post("/sign-out")
def sign_out():
    person = people.pop(session.pop("id", None), None)
    query = {"client_id": CLIENT_ID, "post_logout_redirect_uri": APP_URL + "/"}
    if person:
        query["id_token_hint"] = person["token"]["id_token"]  # without it the person is asked
    end = harmony.load_server_metadata()["end_session_endpoint"]
    return redirect(end + "?" + urlencode(query), code=303)


@app.post("/backchannel-logout")
def backchannel_logout():
    def key(header, _):
        for again in (False, True):  # a key that is not known yet is fetched
            try:
                keys = JsonWebKey.import_key_set(harmony.fetch_jwk_set(force=again))
                return keys.find_by_kid(header.get("kid"))
            except ValueError:
                continue
        raise JoseError("unknown key")

    options = {name: {"essential": True} for name in ("sub", "sid", "jti", "iat", "exp")}
    options["iss"] = {"essential": True, "value": ISSUER}
    options["aud"] = {"essential": True, "value": CLIENT_ID}
    try:
        claims = JsonWebToken(["ES256"]).decode(
            request.form.get("logout_token", ""), key, claims_options=options
        )
        claims.validate(leeway=60)
    except (JoseError, ValueError) as error:
        return str(error), 400
    event = claims.get("events", {}).get("http://schemas.openid.net/event/backchannel-logout")
    if claims.header.get("typ") != "logout+jwt" or event is None or "nonce" in claims:
        return "not about a logout", 400
    for id, person in list(people.items()):
        if (person["sub"], person["sid"]) == (claims["sub"], claims["sid"]):
            people.pop(id, None)
    return "", 200, {"Cache-Control": "no-store"}


if __name__ == "__main__":
    at = urlsplit(APP_URL)
    app.run(at.hostname, at.port)
