package mail

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

const (
	user     = "harmony"
	password = "hunter2"
)

var aMessage = Message{
	ID: "evt_01", From: `"Harmony" <no-reply@id.test>`, To: "ada@example.com",
	Subject: "New sign-in", Text: "Hello Ada,\n\nsomebody signed in.\n", HTML: "<p>Hello Ada,</p>\n",
}

// An mta is a mail server on this machine.
type mta struct {
	address string
	ca      *x509.CertPool // who signed its certificate

	mechanisms []string
	refuse     map[string]error // its answer to "AUTH", "MAIL", "RCPT" or "DATA"

	mu       sync.Mutex
	received []received
}

// A received is a message as it arrived.
type received struct {
	from, to string
	data     string
	tls      bool
	utf8     bool
	auth     string // how the sender proved who it is, or ""
}

// newMTA starts a server. Its edit may set it up otherwise; whoever sets a TLS
// configuration gets a certificate for localhost in it, if it has none.
func newMTA(t *testing.T, edit func(*mta, *gosmtp.Server)) *mta {
	t.Helper()
	m := &mta{mechanisms: []string{sasl.Plain, sasl.Login}, refuse: map[string]error{}}
	s := gosmtp.NewServer(m)
	s.Domain, s.ErrorLog = "mta.test", log.New(io.Discard, "", 0)
	implicit := false
	if edit != nil {
		edit(m, s)
		implicit = s.Network == "tls"
	}
	if s.TLSConfig != nil && s.TLSConfig.Certificates == nil {
		s.TLSConfig.Certificates, m.ca = certificate(t, "localhost")
	}
	l := listen(t)
	m.address = "localhost:" + port(l)
	if implicit {
		l = tls.NewListener(l, s.TLSConfig)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return m
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// starttls offers STARTTLS, implicit speaks TLS from the start.
func starttls(_ *mta, s *gosmtp.Server) { s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} }
func implicit(m *mta, s *gosmtp.Server) { starttls(m, s); s.Network = "tls" }

// certificate makes an authority and a certificate for a name.
func certificate(t *testing.T, name string) ([]tls.Certificate, *x509.CertPool) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = template, key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	ca, caKey := make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := make(&x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}, pool
}

// sender is how the product reaches the server, which it takes for one on another
// machine. The URL has "%s" where the address is.
func (m *mta) sender(t *testing.T, url string) *SMTP {
	t.Helper()
	s := m.localSender(t, url)
	s.local, s.roots = false, m.ca
	return s
}

func (m *mta) localSender(t *testing.T, url string) *SMTP {
	t.Helper()
	s, err := NewSMTP(fmt.Sprintf(url, m.address))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// messages are those that arrived.
func (m *mta) messages() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.received
}

// message is the one that arrived.
func (m *mta) message(t *testing.T) received {
	t.Helper()
	all := m.messages()
	if len(all) != 1 {
		t.Fatalf("%d messages arrived", len(all))
	}
	return all[0]
}

func (m *mta) NewSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	_, secure := c.TLSConnectionState()
	return &visit{mta: m, received: received{tls: secure}}, nil
}

// A visit is one connection to an mta.
type visit struct {
	mta *mta
	received
}

func (v *visit) Reset()        {}
func (v *visit) Logout() error { return nil }

func (v *visit) AuthMechanisms() []string { return v.mta.mechanisms }

func (v *visit) Auth(mechanism string) (sasl.Server, error) {
	check := func(name, secret string) error {
		if err := v.mta.refuse["AUTH"]; err != nil {
			return err
		}
		if name != user || secret != password {
			return gosmtp.ErrAuthFailed
		}
		v.auth = mechanism
		return nil
	}
	if mechanism == sasl.Plain {
		return sasl.NewPlainServer(func(_, name, secret string) error { return check(name, secret) }), nil
	}
	return &loginServer{check: check}, nil
}

// A loginServer is the mechanism LOGIN, which is in no RFC.
type loginServer struct {
	said  []string
	check func(name, secret string) error
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil {
		l.said = append(l.said, string(response))
	}
	switch len(l.said) {
	case 0:
		return []byte("Username:"), false, nil
	case 1:
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.said[0], l.said[1])
}

func (v *visit) Mail(from string, o *gosmtp.MailOptions) error {
	v.from, v.utf8 = from, o.UTF8
	return v.mta.refuse["MAIL"]
}

func (v *visit) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if v.to != "" {
		return errors.New("one recipient is enough")
	}
	v.to = to
	return v.mta.refuse["RCPT"]
}

func (v *visit) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err == nil {
		err = v.mta.refuse["DATA"]
	}
	if err != nil {
		return err
	}
	v.data = string(data)
	v.mta.mu.Lock()
	defer v.mta.mu.Unlock()
	v.mta.received = append(v.mta.received, v.received)
	return nil
}

func TestNewSMTP(t *testing.T) {
	for url, want := range map[string]struct {
		server string
		local  bool
	}{
		"smtp://mail.test":                   {"mail.test:587", false},
		"smtps://mail.test":                  {"mail.test:465", false},
		"smtp://a:b@mail.test:2525/":         {"mail.test:2525", false},
		"smtp://a%40b.test:p%2Fw@mail.test":  {"mail.test:587", false},
		"smtp://localhost:25":                {"localhost:25", true},
		"smtp://LocalHost:25":                {"LocalHost:25", true},
		"smtp://127.0.0.2:25":                {"127.0.0.2:25", true},
		"smtp://[::1]:25":                    {"[::1]:25", true},
		"smtp://[::ffff:127.0.0.1]:25":       {"[::ffff:127.0.0.1]:25", true},
		"smtp://localhost.evil.test":         {"localhost.evil.test:587", false},
		"smtp://0.0.0.0:25":                  {"0.0.0.0:25", false},
		"smtps://a:b@[2001:db8::25]:465":     {"[2001:db8::25]:465", false},
		"smtp://ada%40mail.test:b@10.0.0.25": {"10.0.0.25:587", false},
	} {
		s, err := NewSMTP(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		} else if s.String() != want.server || s.local != want.local {
			t.Errorf("%s: %s, on this machine: %v, want %+v", url, s, s.local, want)
		}
	}
	for _, url := range []string{
		"", "mail.test", "mail.test:25", "http://mail.test", "smtp://", "smtp://:25", "smtps://a:hunter2@mail.test/inbox", "smtps://a:hunter2@mail.test?tls=no",
		"smtps://a:hunter2@mail.test#x", "smtp://a:hunter2@mail.test:0", "smtp://a:hunter2@mail.test:65536", "smtp://a:hunter2@mail.test:x", "smtp://a@mail.test",
		"smtp://:hunter2@mail.test", "smtp://a:hunter2%@mail.test", "smtp://a:hun\nter2@mail.test",
	} {
		s, err := NewSMTP(url)
		if err == nil {
			t.Errorf("%q: %s", url, s)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%q: the password is in %q", url, err)
		}
	}
}

// Every way in which a message may go, and what the server sees of it.
func TestSend(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*mta, *gosmtp.Server)
		url   string
		local bool
		tls   bool
		auth  string
	}{
		"on this machine":                     {nil, "smtp://%s", true, false, ""},
		"on this machine, no use for TLS":     {starttls, "smtp://%s", true, false, ""},
		"on this machine, with a password":    {func(_ *mta, s *gosmtp.Server) { s.AllowInsecureAuth = true }, "smtp://harmony:hunter2@%s", true, false, "PLAIN"},
		"on this machine, LOGIN":              {func(m *mta, s *gosmtp.Server) { s.AllowInsecureAuth, m.mechanisms = true, []string{"LOGIN"} }, "smtp://harmony:hunter2@%s", true, false, "LOGIN"},
		"on this machine, password under TLS": {starttls, "smtp://harmony:hunter2@%s", true, true, "PLAIN"},
		"STARTTLS":                            {starttls, "smtp://%s", false, true, ""},
		"STARTTLS, PLAIN":                     {starttls, "smtp://harmony:hunter2@%s", false, true, "PLAIN"},
		"STARTTLS, LOGIN":                     {func(m *mta, s *gosmtp.Server) { starttls(m, s); m.mechanisms = []string{"LOGIN", "X-NEW"} }, "smtp://harmony:hunter2@%s", false, true, "LOGIN"},
		"TLS from the start":                  {implicit, "smtps://%s", false, true, ""},
		"TLS from the start, PLAIN":           {implicit, "smtps://harmony:hunter2@%s", false, true, "PLAIN"},
		"TLS from the start, on this machine": {implicit, "smtps://harmony:hunter2@%s", true, true, "PLAIN"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMTA(t, c.edit)
			s := m.localSender(t, c.url)
			s.local, s.roots = c.local, m.ca
			if err := s.Send(t.Context(), aMessage); err != nil {
				t.Fatal(err)
			}
			got := m.message(t)
			if got.from != "no-reply@id.test" || got.to != aMessage.To || got.tls != c.tls || got.auth != c.auth {
				t.Errorf("arrived: %+v", got)
			}
		})
	}
}

// EM-05: without TLS that is worth it nothing is sent to another machine, and the
// message is kept.
func TestEM05_TLS(t *testing.T) {
	stranger := func(m *mta, s *gosmtp.Server) {
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		s.TLSConfig.Certificates, _ = certificate(t, "localhost")
		_, m.ca = certificate(t, "localhost")
	}
	otherName := func(m *mta, s *gosmtp.Server) {
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		s.TLSConfig.Certificates, m.ca = certificate(t, "mail.test")
	}
	old := func(_ *mta, s *gosmtp.Server) {
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	}
	from := func(edit func(*mta, *gosmtp.Server)) func(*mta, *gosmtp.Server) {
		return func(m *mta, s *gosmtp.Server) { edit(m, s); s.Network = "tls" }
	}
	for name, c := range map[string]struct {
		edit func(*mta, *gosmtp.Server)
		url  string
		says string
	}{
		"no STARTTLS":                 {nil, "smtp://%s", "STARTTLS"},
		"no STARTTLS, a password":     {func(_ *mta, s *gosmtp.Server) { s.AllowInsecureAuth = true }, "smtp://harmony:hunter2@%s", "STARTTLS"},
		"STARTTLS, nobody's":          {stranger, "smtp://harmony:hunter2@%s", "certificate"},
		"STARTTLS, another's":         {otherName, "smtp://harmony:hunter2@%s", "certificate"},
		"STARTTLS, too old":           {old, "smtp://harmony:hunter2@%s", "protocol version"},
		"from the start, none":        {nil, "smtps://harmony:hunter2@%s", "tls"},
		"from the start, nobody's":    {from(stranger), "smtps://harmony:hunter2@%s", "certificate"},
		"from the start, another's":   {from(otherName), "smtps://harmony:hunter2@%s", "certificate"},
		"from the start, too old":     {from(old), "smtps://harmony:hunter2@%s", "protocol version"},
		"STARTTLS where TLS is first": {implicit, "smtp://harmony:hunter2@%s", "greeting"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMTA(t, c.edit)
			s := m.sender(t, c.url)
			s.dial = time.Second
			err := s.Send(t.Context(), aMessage)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), m.address) {
				t.Fatalf("Send = %v, want %q said", err, c.says)
			}
			if _, refused := errors.AsType[*Refused](err); refused {
				t.Errorf("given up: %v", err)
			}
			if n := len(m.messages()); n != 0 {
				t.Errorf("%d messages arrived", n)
			}
		})
	}
}

// The password of a server on this machine is said under TLS that is worth it, if
// the server has any.
func TestLocalPasswordUnderTLS(t *testing.T) {
	m := newMTA(t, starttls)
	s := m.localSender(t, "smtp://harmony:hunter2@%s") // does not know the authority
	if err := s.Send(t.Context(), aMessage); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Send = %v", err)
	}
}

// What a server says to a recipient is for good; what it says to us is an
// operator's to mend.
func TestRefusals(t *testing.T) {
	none := gosmtp.NoEnhancedCode
	for _, c := range []struct {
		to       string
		code     int
		enhanced gosmtp.EnhancedCode
		text     string
		refused  bool
	}{
		{"RCPT", 550, gosmtp.EnhancedCode{5, 1, 1}, "no such mailbox", true},
		{"RCPT", 550, none, "no such mailbox", true},
		{"RCPT", 551, none, "not here", true},
		{"RCPT", 553, none, "cannot be", true},
		{"RCPT", 552, gosmtp.EnhancedCode{5, 2, 2}, "mailbox full", true},
		{"RCPT", 556, gosmtp.EnhancedCode{5, 1, 10}, "takes no mail", true},
		{"RCPT", 450, gosmtp.EnhancedCode{4, 2, 0}, "greylisted", false},
		{"RCPT", 451, none, "later", false},
		{"RCPT", 452, gosmtp.EnhancedCode{4, 2, 2}, "mailbox full", false},
		{"RCPT", 550, gosmtp.EnhancedCode{5, 7, 1}, "relaying denied", false},
		{"RCPT", 554, gosmtp.EnhancedCode{5, 7, 1}, "relay access denied", false},
		{"RCPT", 554, none, "transaction failed", false},
		{"RCPT", 553, gosmtp.EnhancedCode{5, 1, 8}, "sender's domain not found", false},
		{"RCPT", 530, gosmtp.EnhancedCode{5, 7, 0}, "authentication required", false},
		{"MAIL", 550, gosmtp.EnhancedCode{5, 1, 1}, "no such sender", false},
		{"MAIL", 553, none, "not your address", false},
		{"MAIL", 451, none, "later", false},
		{"DATA", 554, gosmtp.EnhancedCode{5, 7, 1}, "looks like spam", false},
		{"DATA", 452, none, "disk full", false},
		{"AUTH", 535, gosmtp.EnhancedCode{5, 7, 8}, "who are you", false},
		{"AUTH", 454, gosmtp.EnhancedCode{4, 7, 0}, "later", false},
	} {
		t.Run(fmt.Sprint(c.to, c.code, c.enhanced), func(t *testing.T) {
			m := newMTA(t, func(m *mta, s *gosmtp.Server) {
				starttls(m, s)
				m.refuse[c.to] = &gosmtp.SMTPError{Code: c.code, EnhancedCode: c.enhanced, Message: c.text}
			})
			err := m.sender(t, "smtp://harmony:hunter2@%s").Send(t.Context(), aMessage)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint(c.code)) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("Send = %v", err)
			}
			if _, refused := errors.AsType[*Refused](err); refused != c.refused {
				t.Errorf("Send = %v, refused %v", err, refused)
			}
		})
	}
}

// A server may repeat what it was sent; no error does. Nor does one name who the
// mail is for.
func TestErrorsAreDiscreet(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	for to, text := range map[string]string{
		"AUTH": "AUTH PLAIN " + encoded + " hunter2 " + base64.StdEncoding.EncodeToString([]byte(password)) + " is wrong",
		"MAIL": "hunter2 is not ada@example.com",
		"RCPT": "<Ada@Example.com>: Recipient address rejected",
		"DATA": "not to ada@example.com",
	} {
		m := newMTA(t, func(m *mta, s *gosmtp.Server) {
			starttls(m, s)
			m.refuse[to] = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: text}
		})
		err := m.sender(t, "smtp://harmony:hunter2@%s").Send(t.Context(), aMessage)
		if err == nil || !strings.Contains(err.Error(), "550") {
			t.Errorf("%s: %v", to, err)
			continue
		}
		for _, secret := range []string{"hunter2", encoded, "aHVudGVyMg", "ada@", "Ada@"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %q is in %q", to, secret, err)
			}
		}
	}
	s, err := NewSMTP("smtp://harmony:hunter2@127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), aMessage); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Send = %v", err)
	}
}

// A server that offers no way to sign in that we know gets no mail.
func TestNoWayToSignIn(t *testing.T) {
	m := newMTA(t, func(m *mta, s *gosmtp.Server) { starttls(m, s); m.mechanisms = []string{"X-PLAIN", "GSSAPI"} })
	if err := m.sender(t, "smtp://harmony:hunter2@%s").Send(t.Context(), aMessage); err == nil || !strings.Contains(err.Error(), "GSSAPI") {
		t.Errorf("Send = %v", err)
	}
	m = newMTA(t, func(m *mta, s *gosmtp.Server) { starttls(m, s); m.mechanisms = nil })
	if err := m.sender(t, "smtp://harmony:hunter2@%s").Send(t.Context(), aMessage); err == nil || !strings.Contains(err.Error(), "signing in") {
		t.Errorf("Send = %v", err)
	}
}

// A script is a server on this machine that answers each line as told, until it
// has no more to say: then it hangs, or hangs up. It returns its URL.
func script(t *testing.T, hangUp bool, answers ...string) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				if hangUp {
					defer conn.Close()
				}
				lines, inMail := bufio.NewScanner(conn), false
				for _, answer := range answers {
					fmt.Fprint(conn, answer+"\r\n")
					inMail = strings.HasPrefix(answer, "354")
					for lines.Scan() && inMail && lines.Text() != "." {
					}
				}
			}()
		}
	}()
	return "smtp://127.0.0.1:" + port(l)
}

// EM-07: a server that does not speak, or no longer, holds nobody up for long, and
// the message is kept.
func TestEM07_Silence(t *testing.T) {
	for name, answers := range map[string][]string{
		"never speaks":       nil,
		"greets":             {"220 mta.test ESMTP"},
		"takes no recipient": {"220 mta.test ESMTP", "250 mta.test", "250 fine"},
		"takes no message":   {"220 mta.test ESMTP", "250 mta.test", "250 fine", "250 fine", "354 go on"},
	} {
		for _, hangUp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, hangs up: %v", name, hangUp), func(t *testing.T) {
				s, err := NewSMTP(script(t, hangUp, answers...))
				if err != nil {
					t.Fatal(err)
				}
				s.dial, s.send = 100*time.Millisecond, 200*time.Millisecond
				began := time.Now()
				err = s.Send(t.Context(), aMessage)
				if _, refused := errors.AsType[*Refused](err); err == nil || refused {
					t.Errorf("Send = %v", err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		}
	}
}

// Stopping waits for no server.
func TestSendStops(t *testing.T) {
	s, err := NewSMTP(script(t, false, "220 mta.test ESMTP"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := s.Send(ctx, aMessage); !errors.Is(err, context.Canceled) {
		t.Errorf("Send = %v", err)
	}
}

// Once the server has the message it is not sent again, however the server takes
// its leave.
func TestTakenIsTaken(t *testing.T) {
	taken := []string{"220 mta.test ESMTP", "250 mta.test", "250 fine", "250 fine", "354 go on", "250 taken"}
	for _, leave := range [][]string{nil, {"421 gone"}, {"500 what?"}} {
		s, err := NewSMTP(script(t, true, append(taken, leave...)...))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), aMessage); err != nil {
			t.Errorf("%q: %v", leave, err)
		}
	}
}

// The message as it arrives.
func TestWire(t *testing.T) {
	m := newMTA(t, nil)
	s := m.localSender(t, "smtp://%s")
	long := strings.Repeat("a long line ", 200)
	sent := Message{
		ID: "evt_01", From: `=?utf-8?q?H=C3=A4rmony=2C_Ltd=2E?= <no-reply@id.test>`, To: "o'brien+tag@sub.example.com",
		Subject: "You used a backup code – “seven” left, and this is a subject of a good length",
		Text:    "Hëllo,\n.\n..\nFrom here\n" + long + "\n= % \ttab \n\nend\n",
		HTML:    "<p>Hëllo</p>\n<p>" + long + "</p>\n.\n",
	}
	for range 2 {
		if err := s.Send(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
	}
	all := m.messages()
	if len(all) != 2 {
		t.Fatalf("%d messages arrived", len(all))
	}
	var ids []string
	for _, got := range all {
		for line := range strings.SplitSeq(got.data, "\r\n") {
			if len(line) > 100 || strings.ContainsAny(line, "\r\n") || !ascii(line) {
				t.Errorf("a line of %d bytes: %.200q", len(line), line)
			}
		}
		msg, err := netmail.ReadMessage(strings.NewReader(got.data))
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range msg.Header {
			if len(values) != 1 {
				t.Errorf("%s: %q", name, values)
			}
			switch name {
			case "From", "To", "Subject", "Date", "Message-Id", "Auto-Submitted", "Mime-Version", "Content-Type":
			default:
				t.Errorf("there is a header %s: %q", name, values)
			}
		}
		to, err := msg.Header.AddressList("To")
		if err != nil || len(to) != 1 || to[0].Address != sent.To || to[0].Name != "" {
			t.Errorf("To: %v, %v", to, err)
		}
		from, err := msg.Header.AddressList("From")
		if err != nil || len(from) != 1 || from[0].Address != "no-reply@id.test" || from[0].Name != "Härmony, Ltd." {
			t.Errorf("From: %v, %v", from, err)
		}
		if subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil || subject != sent.Subject {
			t.Errorf("Subject: %q, %v", subject, err)
		}
		if date, err := msg.Header.Date(); err != nil || time.Since(date).Abs() > time.Minute {
			t.Errorf("Date: %s, %v", date, err)
		}
		if got := msg.Header.Get("Auto-Submitted"); got != "auto-generated" {
			t.Errorf("Auto-Submitted: %s", got)
		}
		ids = append(ids, msg.Header.Get("Message-Id"))
		parts := alternatives(t, msg)
		for kind, want := range map[string]string{"text/plain": sent.Text, "text/html": sent.HTML} {
			if got := strings.ReplaceAll(parts[kind], "\r\n", "\n"); got != want {
				t.Errorf("%s:\n%q, want\n%q", kind, got, want)
			}
		}
	}
	if ids[0] != "<evt_01@id.test>" || ids[1] != ids[0] {
		t.Errorf("Message-IDs %q", ids)
	}
}

// alternatives are the parts of a message, by type, in the order in which the best
// comes last (RFC 2046 5.1.4).
func alternatives(t *testing.T, msg *netmail.Message) map[string]string {
	t.Helper()
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("Content-Type %s, %v", kind, err)
	}
	parts, kinds := map[string]string{}, ""
	for r := multipart.NewReader(msg.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil || !strings.EqualFold(params["charset"], "utf-8") || p.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Errorf("a part with %v, %v", p.Header, err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		parts[kind] = string(body)
		kinds += kind + " "
	}
	if kinds != "text/plain text/html " {
		t.Errorf("parts: %s", kinds)
	}
	return parts
}

// EM-01: what would be more than one header or one recipient is not sent at all.
func TestEM01_OneRecipientNoHeader(t *testing.T) {
	m := newMTA(t, nil)
	s := m.localSender(t, "smtp://%s")
	for name, edit := range map[string]func(*Message){
		"to, a line":        func(m *Message) { m.To = "ada@example.com\r\nBcc: bob@example.com" },
		"to, two":           func(m *Message) { m.To = "ada@example.com, bob@example.com" },
		"to, two in one":    func(m *Message) { m.To = "<ada@example.com>,<bob@example.com>" },
		"to, with a name":   func(m *Message) { m.To = "Bob <ada@example.com>" },
		"to, a parameter":   func(m *Message) { m.To = "ada@example.com> NOTIFY=NEVER" },
		"to, nobody":        func(m *Message) { m.To = "" },
		"from, a line":      func(m *Message) { m.From = "Harmony\r\nBcc: bob@example.com <no-reply@id.test>" },
		"from, nobody":      func(m *Message) { m.From = "Harmony" },
		"subject, a line":   func(m *Message) { m.Subject = "Hello\r\nBcc: bob@example.com" },
		"subject, a letter": func(m *Message) { m.Subject = "Hello\nthere" },
		"subject, NEL":      func(m *Message) { m.Subject = "Hello\u0085there" },
		"subject, encoded":  func(m *Message) { m.Subject = "=?utf-8?q?Hello=0D=0ABcc:_bob@example.com?=" },
		"id, a line":        func(m *Message) { m.ID = "evt_01\r\nBcc: bob@example.com" },
		"id, a dot":         func(m *Message) { m.ID = ".evt" },
		"id, none":          func(m *Message) { m.ID = "" },
	} {
		msg := aMessage
		edit(&msg)
		err := s.Send(t.Context(), msg)
		if _, refused := errors.AsType[*Refused](err); !refused {
			t.Errorf("%s: Send = %v", name, err)
		}
	}
	if n := len(m.messages()); n != 0 {
		t.Fatalf("%d messages arrived", n)
	}
	// Text that only looks like a header is text.
	msg := aMessage
	msg.Subject = "Bcc: bob@example.com"
	msg.Text = "Bcc: bob@example.com\n\n--boundary\n"
	if err := s.Send(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	got, err := netmail.ReadMessage(strings.NewReader(m.message(t).data))
	if err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Bcc") != "" || m.message(t).to != aMessage.To {
		t.Errorf("arrived: %+v", m.message(t))
	}
	if subject := got.Header.Get("Subject"); subject != msg.Subject {
		t.Errorf("Subject: %q", subject)
	}
}

// Addresses with letters outside ASCII need a server that takes them, and only
// they ask for it.
func TestSMTPUTF8(t *testing.T) {
	m := newMTA(t, func(_ *mta, s *gosmtp.Server) { s.EnableSMTPUTF8 = true })
	msg := aMessage
	for _, to := range []string{"ada@example.com", "café@example.com"} {
		msg.To = to
		if err := m.localSender(t, "smtp://%s").Send(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.messages(); len(got) != 2 || got[0].utf8 || !got[1].utf8 || got[1].to != "café@example.com" {
		t.Errorf("arrived: %+v", got)
	}
}
