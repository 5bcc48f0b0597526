package main

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// The rooms tell through functions in their Config what they decide (account.Watch,
// idp.Watch and their like); here is all that Prometheus knows of it. No label names a
// person, an address or a session: their values are the few words below.

const metricsPrefix = "harmony_id"

// A metricSet is the metrics of one provider. It may be used by many goroutines.
type metricSet struct {
	registry *prometheus.Registry

	signIns, seconds, throttled, tokens, deliveries, mails *prometheus.CounterVec
	codes, reuses                                          prometheus.Counter
	hashes                                                 prometheus.Histogram
	requests                                               *prometheus.HistogramVec
}

func newMetrics() *metricSet {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: metricsPrefix, Name: name, Help: help}, labels)
	}
	m := &metricSet{
		registry:   prometheus.NewRegistry(),
		signIns:    counter("signin_total", "Sign-ins by method (password, google, passkey) and result: ok, half (the second factor is to come), wrong, throttled, busy, refused, over and cloned (passkeys), unavailable (Google), error.", "method", "result"),
		seconds:    counter("second_factor_total", "Codes and passkeys as second factor by result: ok, wrong, used, paused, throttled, busy, over, refused, cloned, error.", "result"),
		throttled:  counter("throttled_total", "Attempts that a limit refused, by its lane.", "lane"),
		tokens:     counter("token_issued_total", "Answers with tokens by grant type.", "grant"),
		deliveries: counter("bcl_deliveries_total", "Attempts to tell a workspace that a session ended, by result: confirmed, delayed, given_up.", "result"),
		mails:      counter("mail_total", "Attempts to send a mail by result: sent, delayed, given_up.", "result"),
		codes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: metricsPrefix, Name: "code_reuse_total", Help: "Authorization codes that were used again; their grants have ended.",
		}),
		reuses: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: metricsPrefix, Name: "refresh_reuse_total", Help: "Refresh tokens that were used after they were given up; their grants have ended.",
		}),
		hashes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metricsPrefix, Name: "password_hash_seconds", Help: "Time that hashing a password took, without the wait for its turn.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: metricsPrefix, Name: "http_request_seconds", Help: "Time that a request of the public listener took, by class of status.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"status"}),
	}
	m.registry.MustRegister(m.signIns, m.seconds, m.throttled, m.tokens, m.deliveries, m.mails, m.codes, m.reuses, m.hashes, m.requests,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// What may be alerted on is there from the start: a counter that appears at 1 has no rate.
	for _, method := range []string{"password", "google", "passkey"} {
		for _, result := range []string{"ok", "half", "wrong", "throttled", "busy", "refused", "over", "cloned", "unavailable", "error"} {
			m.signIns.WithLabelValues(method, result)
		}
	}
	for _, result := range []string{"ok", "wrong", "used", "paused", "throttled", "busy", "over", "refused", "cloned", "error"} {
		m.seconds.WithLabelValues(result)
	}
	for _, lane := range account.Lanes() {
		m.throttled.WithLabelValues(lane)
	}
	for _, grant := range []string{"authorization_code", "refresh_token", "client_credentials"} {
		m.tokens.WithLabelValues(grant)
	}
	for _, result := range []string{"confirmed", "delayed", "given_up"} {
		m.deliveries.WithLabelValues(result)
	}
	for _, result := range []string{"sent", "delayed", "given_up"} {
		m.mails.WithLabelValues(result)
	}
	for _, class := range []string{"2xx", "3xx", "4xx", "5xx"} {
		m.requests.WithLabelValues(class)
	}
	return m
}

// watch has the rooms of a house tell m what they decide.
func (m *metricSet) watch(cfg *houseConfig) {
	cfg.account.Watch = account.Watch{
		SignIn:       func(method, result string) { m.signIns.WithLabelValues(method, result).Inc() },
		SecondFactor: func(result string) { m.seconds.WithLabelValues(result).Inc() },
		Throttled:    func(lane string) { m.throttled.WithLabelValues(lane).Inc() },
		Hashed:       func(took time.Duration) { m.hashes.Observe(took.Seconds()) },
	}
	cfg.idp.Watch = idp.Watch{
		Token:         func(grant string) { m.tokens.WithLabelValues(grant).Inc() },
		CodeReused:    m.codes.Inc,
		RefreshReused: m.reuses.Inc,
		Told:          func(result string) { m.deliveries.WithLabelValues(result).Inc() },
	}
	cfg.mail.Watch = func(result string) { m.mails.WithLabelValues(result).Inc() }
	if cfg.google != nil {
		google := *cfg.google
		google.Watch = func(result string) { m.signIns.WithLabelValues("google", result).Inc() }
		cfg.google = &google
	}
	cfg.answered = func(status int, took time.Duration) {
		m.requests.WithLabelValues(strconv.Itoa(status/100) + "xx").Observe(took.Seconds())
	}
}

// handler answers a scrape.
func (m *metricSet) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError, Registry: m.registry,
	})
}

// lookTime bounds what a scrape or a probe may wait for the database.
const lookTime = 2 * time.Second

// A stateCollector reads at each scrape what the database knows.
type stateCollector struct {
	db       *db.DB
	accounts *account.Store
	keys     *idp.Keys
	one      sync.Mutex // scrapes that come at once ask one after the other

	up, clock, outbox, key                             *prometheus.Desc
	open, inUse, idle, most, waits, waited, closedIdle *prometheus.Desc
}

func newStateCollector(d *db.DB) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(metricsPrefix+"_"+name, help, labels, nil)
	}
	return &stateCollector{
		db: d, accounts: account.New(d, nil, account.Config{}), keys: idp.NewKeys(d, nil),
		up:         desc("database_up", "Whether the database answered this scrape."),
		clock:      desc("clock_offset_seconds", "How far the database's clock is ahead of this machine's."),
		outbox:     desc("outbox_oldest_seconds", "Age of the oldest thing that is still to be told: mail (to people), logout (to workspaces). 0: nothing is.", "outbox"),
		key:        desc("signing_key_age_seconds", "How long the key that signs has been signing, by algorithm.", "alg"),
		open:       desc("db_pool_open_connections", "Connections to the database, SQLite's writer aside."),
		inUse:      desc("db_pool_in_use_connections", "Connections that are in use."),
		idle:       desc("db_pool_idle_connections", "Connections that wait for use."),
		most:       desc("db_pool_max_connections", "Connections that there may be."),
		waits:      desc("db_pool_waits_total", "Requests that had to wait for a connection."),
		waited:     desc("db_pool_wait_seconds_total", "How long they waited."),
		closedIdle: desc("db_pool_closed_idle_total", "Connections that were closed because they waited for use."),
	}
}

// Describe names the metrics.
func (c *stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.clock, c.outbox, c.key, c.open, c.inUse, c.idle, c.most, c.waits, c.waited, c.closedIdle} {
		out <- d
	}
}

// Collect reads them. What the database does not tell is left out of the scrape.
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	c.one.Lock()
	defer c.one.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := c.db.Stats()
	gauge(c.open, float64(s.OpenConnections))
	gauge(c.inUse, float64(s.InUse))
	gauge(c.idle, float64(s.Idle))
	gauge(c.most, float64(s.MaxOpenConnections))
	out <- prometheus.MustNewConstMetric(c.waits, prometheus.CounterValue, float64(s.WaitCount))
	out <- prometheus.MustNewConstMetric(c.waited, prometheus.CounterValue, s.WaitDuration.Seconds())
	out <- prometheus.MustNewConstMetric(c.closedIdle, prometheus.CounterValue, float64(s.MaxIdleClosed+s.MaxIdleTimeClosed))

	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	now, up := time.Now(), 1.0
	if offset, err := c.db.ClockOffset(ctx); err != nil {
		up = 0
	} else {
		gauge(c.clock, offset.Seconds())
	}
	for outbox, oldest := range map[string]func(context.Context) (time.Time, error){
		"mail":   c.accounts.OldestLetter,
		"logout": func(ctx context.Context) (time.Time, error) { return idp.OldestNotice(ctx, c.db) },
	} {
		switch at, err := oldest(ctx); {
		case err != nil:
			up = 0
		case at.IsZero():
			gauge(c.outbox, 0, outbox)
		default:
			gauge(c.outbox, max(0, now.Sub(at).Seconds()), outbox)
		}
	}
	keys, err := c.keys.List(ctx)
	if err != nil {
		up = 0
	}
	for _, k := range keys {
		if k.State == idp.KeyActive {
			gauge(c.key, now.Sub(k.ActiveAt).Seconds(), k.Alg)
		}
	}
	gauge(c.up, up)
}
