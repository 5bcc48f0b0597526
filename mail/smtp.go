package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// How long a mail server may take until it greets, and for a whole message.
const (
	dialTimeout = 10 * time.Second
	sendTimeout = 2 * time.Minute
)

// An SMTP is a mail server that takes messages.
type SMTP struct {
	host           string
	port           int
	implicit       bool // TLS from the start
	user, password string
	local          bool // on this machine: then it may lack TLS

	roots      *x509.CertPool // nil: the system's
	dial, send time.Duration
}

// NewSMTP reads the URL of a mail server: smtps://USER:PASSWORD@HOST:PORT for TLS
// from the start (port 465), smtp:// for STARTTLS (port 587). Without TLS nothing is
// sent, and certificates are verified (ASVS 12.3.2), but for smtp:// on this machine:
// there STARTTLS only guards a password, and only if it is offered. Its errors never
// hold the password.
func NewSMTP(raw string) (*SMTP, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || (u.Scheme != "smtp" && u.Scheme != "smtps") {
		return nil, errors.New("that is not a mail server's URL: write it as smtps://USER:PASSWORD@HOST or smtp://USER:PASSWORD@HOST")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the mail server's URL has more than user, password, host and port")
	}
	s := &SMTP{host: u.Hostname(), port: 587, implicit: u.Scheme == "smtps", local: loopback(u.Hostname()), dial: dialTimeout, send: sendTimeout}
	if s.implicit {
		s.port = 465
	}
	if p := u.Port(); p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return nil, errors.New("the mail server's URL has a port that cannot be")
		}
	}
	s.user = u.User.Username()
	s.password, _ = u.User.Password()
	if (s.user == "") != (s.password == "") {
		return nil, errors.New("the mail server's URL has a user without a password, or the other way round")
	}
	return s, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && a.Unmap().IsLoopback()
}

// String is the server's address, without user and password.
func (s *SMTP) String() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// Send hands a message to the server. A *Refused says that the server will not take
// it for this recipient, however often. Its errors have the server's words, but
// neither the password nor the recipient, for they are logged.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := message(m)
	if err != nil {
		return &Refused{err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.send)
	defer cancel()
	err = s.deliver(ctx, msg)
	if err == nil {
		return nil
	}
	if over := ctx.Err(); over != nil {
		err = over // closed connections are what it looks like from below
	}
	refused, hopeless := errors.AsType[*Refused](err)
	if hopeless {
		err = refused.Err
	}
	err = fmt.Errorf("mail server %s: %w", s, s.discreet(err, m.To))
	if hopeless {
		return &Refused{err}
	}
	return err
}

// deliver has the server take the message (RFC 5321). It returns as soon as it was
// taken or ctx ends.
func (s *SMTP) deliver(ctx context.Context, msg *gomail.Msg) error {
	from, err := msg.GetSender(false)
	if err != nil {
		return err
	}
	to, err := msg.GetRecipients()
	if err != nil {
		return err
	}
	c, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	// Asked for needlessly, it would keep the message from servers further on.
	c.SkipSMTPUTF8(ascii(from + to[0]))
	if err := c.Mail(from); err != nil {
		return fmt.Errorf("as the sender: %w", err)
	}
	if err := c.Rcpt(to[0]); err != nil {
		err = fmt.Errorf("for the recipient: %w", err)
		if answer, ok := errors.AsType[*textproto.Error](err); ok && hopeless(answer) {
			return &Refused{err}
		}
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := msg.WriteTo(w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // whatever it says to that, it has the message
	return nil
}

// enter connects and signs in. The caller leaves, which closes the connection, as the
// end of ctx does.
func (s *SMTP) enter(ctx context.Context) (c *smtp.Client, leave func(), err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	leave = func() {
		stop()
		conn.Close()
	}
	if c, err = s.open(conn); err == nil && s.user != "" {
		if err = s.signIn(c); err != nil {
			err = fmt.Errorf("signing in: %w", err)
		}
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	return c, leave, nil
}

// Check signs in to the server as Send does, and sends nothing. Its errors have the
// server's words, but not the password.
func (s *SMTP) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.send)
	defer cancel()
	c, leave, err := s.enter(ctx)
	if err == nil {
		defer leave()
		_ = c.Quit() // whatever it says to that, it let us in
		return nil
	}
	if over := ctx.Err(); over != nil {
		err = over
	}
	return fmt.Errorf("mail server %s: %w", s, s.discreet(err, ""))
}

func (s *SMTP) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.dial)
	defer cancel()
	if s.implicit {
		return (&tls.Dialer{Config: s.tls()}).DialContext(ctx, "tcp", s.String())
	}
	return new(net.Dialer).DialContext(ctx, "tcp", s.String())
}

func (s *SMTP) tls() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}
}

// open hears the server's greeting, introduces this machine and, where it must be,
// goes on in TLS.
func (s *SMTP) open(conn net.Conn) (*smtp.Client, error) {
	if err := conn.SetDeadline(time.Now().Add(s.dial)); err != nil {
		return nil, err
	}
	c, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return nil, fmt.Errorf("waiting for its greeting: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	if err := c.Hello(name); err != nil {
		return nil, err
	}
	if s.implicit || s.local && s.user == "" {
		return c, nil
	}
	switch offered, _ := c.Extension("STARTTLS"); {
	case offered:
		err = c.StartTLS(s.tls())
	case !s.local:
		err = errors.New("it offers no STARTTLS, and without TLS nothing is sent")
	}
	return c, err
}

// signIn proves to the server who sends, in the best way that it offers. By now
// there is TLS, or the server is on this machine: the password may be said.
func (s *SMTP) signIn(c *smtp.Client) error {
	_, offers := c.Extension("AUTH")
	for _, way := range []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(s.user, s.password)},
		{"PLAIN", smtp.PlainAuth("", s.user, s.password, s.host, true)},
		{"LOGIN", smtp.LoginAuth(s.user, s.password, s.host, true)},
		{"CRAM-MD5", smtp.CRAMMD5Auth(s.user, s.password)},
	} {
		if slices.Contains(strings.Fields(strings.ToUpper(offers)), way.name) {
			return c.Auth(way.auth)
		}
	}
	return fmt.Errorf("it offers no way that is known here (AUTH %q)", offers)
}

var (
	enhanced = regexp.MustCompile(`^5\.\d{1,3}\.\d{1,3}\b`)
	// ofTheRecipient are the codes about the recipient's address or mailbox (RFC 3463
	// 3.2 and 3.3). The others are about the sender, or about what the server does for
	// whom ("relaying denied"), which an operator can mend.
	ofTheRecipient = regexp.MustCompile(`^5\.(1\.([1-6]|10)|2\.\d{1,3})\b`)
)

// hopeless reports whether a server's answer to a recipient is for good and about
// the recipient. Without an enhanced code the plain one tells (RFC 5321 4.2.3).
func hopeless(answer *textproto.Error) bool {
	switch {
	case answer.Code/100 != 5:
		return false
	case enhanced.MatchString(answer.Msg):
		return ofTheRecipient.MatchString(answer.Msg)
	}
	return answer.Code == 550 || answer.Code == 551 || answer.Code == 553
}

// discreet is an error without the password and the recipient ("" for none): a server may repeat
// whatever it was sent.
func (s *SMTP) discreet(err error, to string) error {
	text := err.Error()
	if to != "" {
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(to)).ReplaceAllString(text, "the recipient")
	}
	if s.password != "" {
		encode := func(secret string) string { return base64.StdEncoding.EncodeToString([]byte(secret)) }
		for _, secret := range []string{s.password, encode(s.password), encode("\x00" + s.user + "\x00" + s.password)} {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	if text != err.Error() {
		return errors.New(text)
	}
	return err
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// messageID is what the part of a Message-ID before the @ may be.
var messageID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// message is m as it goes over the wire. Nothing of what a person is called can
// become a header (EM-01): values with control characters are refused, as is what a
// mail program would decode some from, and the library encodes the rest.
func message(m Message) (*gomail.Msg, error) {
	for _, v := range []string{m.From, m.To, m.Subject} {
		if strings.ContainsFunc(v, unicode.IsControl) {
			return nil, errors.New("a header with control characters")
		}
	}
	if strings.Contains(m.Subject, "=?") {
		return nil, errors.New("a subject with encoded words")
	}
	if !messageID.MatchString(m.ID) {
		return nil, errors.New("a message without an id")
	}
	from, err := netmail.ParseAddress(m.From)
	if err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if to, err := netmail.ParseAddress(m.To); err != nil || to.Address != m.To {
		return nil, errors.New("the recipient is not one plain address")
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := msg.From(m.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if err := msg.To(m.To); err != nil {
		return nil, errors.New("the recipient is not one plain address")
	}
	msg.SetMessageIDWithValue(m.ID + from.Address[strings.LastIndexByte(from.Address, '@'):])
	msg.SetDate()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	msg.Subject(m.Subject)
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return msg, nil
}
