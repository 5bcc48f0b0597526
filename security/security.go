// Package security is the signed-in person's own pages, where they change how
// they prove who they are.
package security

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A Handler serves the pages below /preferences.
type Handler struct {
	// Sessions guards them.
	Sessions *session.Manager
}

// Routes adds the pages to r.
func (h *Handler) Routes(r *mux.Router) {
	r.Handle("/preferences/security", h.Sessions.Require(h.tab)).Methods("GET", "HEAD")
}

// tab is the Security tab.
func (h *Handler) tab(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return web.Show(w, r, http.StatusOK, templates.Security{Name: in.Name, Email: in.Email, Method: string(in.Method)})
}
