package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	smtp "github.com/wneessen/go-mail"
)

// How long a mail server may take to answer, and for a whole message.
const (
	dialTimeout = 10 * time.Second
	sendTimeout = 30 * time.Second
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
// from the start (port 465), smtp:// for STARTTLS (port 587), which is demanded of
// every server but one on this machine. Certificates are verified in any case
// (ASVS 12.3.2). Its errors never hold the password.
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
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// String is the server's address, without user and password.
func (s *SMTP) String() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

func (s *SMTP) client() (*smtp.Client, error) {
	policy := smtp.TLSMandatory
	if s.local {
		policy = smtp.TLSOpportunistic
	}
	options := []smtp.Option{
		smtp.WithPort(s.port), smtp.WithTimeout(s.dial), smtp.WithTLSPolicy(policy),
		smtp.WithTLSConfig(&tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}),
	}
	if s.implicit {
		options = append(options, smtp.WithSSL())
	}
	if s.user != "" {
		options = append(options, smtp.WithUsername(s.user), smtp.WithPassword(s.password), smtp.WithSMTPAuth(smtp.SMTPAuthAutoDiscover))
	}
	return smtp.NewClient(s.host, options...)
}

// Send hands a message to the server. A *Refused says that the server will not
// take it for this recipient, however often.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := s.message(m)
	if err != nil {
		return &Refused{err}
	}
	c, err := s.client()
	if err != nil {
		return fmt.Errorf("mail server %s: %w", s, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.send)
	defer cancel()
	err = c.DialAndSendWithContext(ctx, msg)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("mail server %s: %w", s, s.quiet(err))
	if sending, ok := errors.AsType[*smtp.SendError](err); ok && !sending.IsTemp() && sending.Reason == smtp.ErrSMTPRcptTo {
		return &Refused{err}
	}
	return err
}

// quiet takes the password out of an error, should a server have repeated it.
func (s *SMTP) quiet(err error) error {
	if s.password != "" && strings.Contains(err.Error(), s.password) {
		return errors.New("the server's answer repeats the password")
	}
	return err
}

// messageID is what the part of a Message-ID before the @ may be.
var messageID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// message is m as it goes over the wire. Nothing of what a person is called can
// become a header (EM-01): values with control characters are refused, and the
// library encodes the rest.
func (s *SMTP) message(m Message) (*smtp.Msg, error) {
	for _, v := range []string{m.From, m.To, m.Subject} {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errors.New("a header with control characters")
		}
	}
	if !messageID.MatchString(m.ID) {
		return nil, errors.New("a message without an id")
	}
	msg := smtp.NewMsg(smtp.WithNoDefaultUserAgent())
	if err := msg.From(m.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if err := msg.To(m.To); err != nil {
		return nil, errors.New("the recipient is not one address")
	}
	from, err := msg.GetSender(false)
	if err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	_, domain, _ := strings.Cut(from, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	msg.SetDate()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	msg.Subject(m.Subject)
	msg.SetBodyString(smtp.TypeTextPlain, m.Text)
	msg.AddAlternativeString(smtp.TypeTextHTML, m.HTML)
	return msg, nil
}
