package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

var (
	issuer, appURL = os.Getenv("ISSUER"), os.Getenv("APP_URL")
	provider       *oidc.Provider
	verifier       *oidc.IDTokenVerifier
	config         oauth2.Config

	mu       sync.Mutex
	began    = map[string]begun{}    // sign-ins that have not come back, by cookie
	sessions = map[string]*session{} // people who are signed in, by cookie
)

type begun struct{ state, nonce, verifier string }

type session struct {
	sub, sid, acr, idToken string
	tokens                 oauth2.TokenSource
}

func main() {
	ctx := context.Background()
	var err error
	if provider, err = oidc.NewProvider(ctx, issuer); err != nil {
		log.Fatal(err)
	}
	verifier = provider.Verifier(&oidc.Config{ClientID: os.Getenv("CLIENT_ID")})
	config = oauth2.Config{
		ClientID: os.Getenv("CLIENT_ID"), ClientSecret: os.Getenv("CLIENT_SECRET"), Endpoint: provider.Endpoint(),
		RedirectURL: appURL + "/callback", Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess},
	}
	http.HandleFunc("GET /{$}", home)
	http.HandleFunc("GET /sign-in", signIn)
	http.HandleFunc("GET /callback", callback)
	http.HandleFunc("POST /sign-out", signOut)
	http.HandleFunc("POST /backchannel-logout", backchannelLogout)
	at, err := url.Parse(appURL)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(at.Host, nil))
}

func setCookie(w http.ResponseWriter, name, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(appURL, "https:"),
	})
}

func cookie(r *http.Request, name string) string {
	if c, err := r.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

var page = template.Must(template.New("").Parse(`<!doctype html>
{{with .}}<p>Signed in: {{.Name}}, {{.Email}}, {{.ACR}}
<form method="post" action="/sign-out"><button>Sign out</button></form>
{{else}}<p>Nobody is signed in. <a href="/sign-in">Sign in</a>{{end}}`))

func home(w http.ResponseWriter, r *http.Request) {
	id := cookie(r, "session")
	mu.Lock()
	s := sessions[id]
	mu.Unlock()
	if s == nil {
		page.Execute(w, nil)
		return
	}
	info, err := provider.UserInfo(r.Context(), s.tokens) // refreshes if it has to
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.ErrorCode == "invalid_grant" {
		mu.Lock() // the session at Harmony has ended
		delete(sessions, id)
		mu.Unlock()
		page.Execute(w, nil)
		return
	}
	person := struct{ Name, Email, ACR string }{ACR: s.acr}
	if err == nil {
		err = info.Claims(&person)
	}
	if err != nil || info.Subject != s.sub {
		log.Print("userinfo: ", err)
		http.Error(w, "That did not work.", http.StatusBadGateway)
		return
	}
	page.Execute(w, person)
}

func signIn(w http.ResponseWriter, r *http.Request) {
	id, b := rand.Text(), begun{rand.Text(), rand.Text(), oauth2.GenerateVerifier()}
	mu.Lock()
	began[id] = b
	mu.Unlock()
	time.AfterFunc(10*time.Minute, func() { mu.Lock(); delete(began, id); mu.Unlock() })
	setCookie(w, "began", id, 600)
	http.Redirect(w, r, config.AuthCodeURL(b.state, oidc.Nonce(b.nonce), oauth2.S256ChallengeOption(b.verifier)), http.StatusSeeOther)
}

func callback(w http.ResponseWriter, r *http.Request) {
	mu.Lock()
	b, ok := began[cookie(r, "began")]
	delete(began, cookie(r, "began"))
	mu.Unlock()
	s, err := (*session)(nil), error(nil)
	switch q := r.URL.Query(); {
	case !ok || q.Get("state") != b.state:
		err = errors.New("this sign-in was not begun in this browser")
	case q.Get("iss") != issuer: // RFC 9207
		err = errors.New("the answer is from somebody else")
	case q.Has("error"):
		err = fmt.Errorf("%s: %s", q.Get("error"), q.Get("error_description"))
	default:
		s, err = redeem(r.Context(), q.Get("code"), b)
	}
	if err != nil {
		log.Print("sign-in: ", err)
		http.Error(w, "That did not work: "+err.Error(), http.StatusBadRequest)
		return
	}
	id := rand.Text() // a new one each time: nobody knows it from before
	mu.Lock()
	sessions[id] = s
	mu.Unlock()
	setCookie(w, "began", "", -1)
	setCookie(w, "session", id, 0)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func redeem(ctx context.Context, code string, b begun) (*session, error) {
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(b.verifier))
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := verifier.Verify(ctx, raw) // signature, iss, aud, exp
	if err != nil {
		return nil, err
	}
	if id.Nonce != b.nonce {
		return nil, errors.New("the ID token was made for another sign-in")
	}
	var more struct{ SID, ACR string }
	if err := id.Claims(&more); err != nil {
		return nil, err
	}
	// It refreshes for as long as the session lasts, which is longer than this request.
	tokens := config.TokenSource(context.Background(), token)
	return &session{sub: id.Subject, sid: more.SID, acr: more.ACR, idToken: raw, tokens: tokens}, nil
}

func signOut(w http.ResponseWriter, r *http.Request) {
	mu.Lock()
	s := sessions[cookie(r, "session")]
	delete(sessions, cookie(r, "session"))
	mu.Unlock()
	q := url.Values{"client_id": {config.ClientID}, "post_logout_redirect_uri": {appURL + "/"}}
	if s != nil {
		q.Set("id_token_hint", s.idToken) // without it the person is asked
	}
	var metadata struct {
		End string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&metadata); err != nil {
		http.Error(w, "That did not work.", http.StatusBadGateway)
		return
	}
	setCookie(w, "session", "", -1)
	http.Redirect(w, r, metadata.End+"?"+q.Encode(), http.StatusSeeOther)
}

func backchannelLogout(w http.ResponseWriter, r *http.Request) {
	token, err := verifier.VerifyLogout(r.Context(), r.PostFormValue("logout_token"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	mu.Lock()
	defer mu.Unlock()
	for id, s := range sessions {
		if s.sub == token.Subject && s.sid == token.SessionID {
			delete(sessions, id)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
}
