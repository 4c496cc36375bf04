package sandboxer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy orders the hosts that may take a sandbox.
type Policy string

// The policies.
const (
	// PolicyExplicit uses exactly one host, the request's or the first of
	// placement.prefer, and never another.
	PolicyExplicit Policy = "explicit"
	// PolicyPreferSelfHosted keeps the order of placement (prefer, then
	// fallback, then configuration), self-hosted hosts first.
	PolicyPreferSelfHosted Policy = "prefer-self-hosted"
	// PolicyLowestCost sorts by estimated cost; unknown cost comes last.
	PolicyLowestCost Policy = "lowest-cost"
)

// A Cost is money per hour in millionths of a currency unit; a float is not money.
type Cost struct {
	Currency      string `json:"currency"` // ISO 4217
	MicrosPerHour int64  `json:"micros_per_hour"`
}

func (c Cost) String() string {
	return fmt.Sprintf("%d.%06d %s/h", c.MicrosPerHour/1_000_000, c.MicrosPerHour%1_000_000, c.Currency)
}

// A Route is the decision where a sandbox goes, and why: every candidate in
// the order tried, and the one chosen.
type Route struct {
	Policy     Policy      `json:"policy"`
	Candidates []Candidate `json:"candidates"`
	Chosen     string      `json:"chosen,omitempty"` // host name; empty when every candidate was rejected
	Reason     string      `json:"reason,omitempty"` // why that one
}

// A Candidate is one host that was considered.
type Candidate struct {
	Extension  string       `json:"extension"`
	Host       string       `json:"host"`
	Pricing    PricingModel `json:"pricing"`
	Score      int          `json:"score"` // position in the policy's order, 1 is best; 0 when rejected
	Estimate   *Cost        `json:"estimate,omitempty"`
	Sandboxes  int          `json:"sandboxes,omitempty"`
	Rejected   string       `json:"rejected,omitempty"` // why it cannot or did not take the sandbox
	Hint       string       `json:"hint,omitempty"`
	preference int          // position in placement; lower is earlier
	cause      error
}

// accepted lists the candidates that were not rejected, best first.
func (r Route) accepted() []Candidate {
	return slices.DeleteFunc(slices.Clone(r.Candidates), func(c Candidate) bool { return c.Rejected != "" })
}

// estimate is what the chosen host costs, nil if that is not known.
func (r Route) estimate(host string) *Cost {
	for _, c := range r.Candidates {
		if host != "" && c.Host == host {
			return c.Estimate
		}
	}
	return nil
}

// reject marks a host as not usable after all, with the reason.
func (r *Route) reject(host string, cause error) {
	for i := range r.Candidates {
		if c := &r.Candidates[i]; c.Host == host && c.Rejected == "" {
			c.reject(cause)
		}
	}
}

// route finds and orders the hosts for req. With probe it asks each host
// whether it can be used now; without, nothing is contacted.
func (c *Client) route(ctx context.Context, req ProvisionRequest, policy Policy, host string, probe bool) (Route, error) {
	r := Route{Policy: policy}
	candidates, err := c.placed(req.Profile, policy, host)
	if err != nil {
		return r, err
	}
	for i := range candidates {
		c.examine(ctx, req, &candidates[i], probe)
	}
	order(candidates, policy)
	r.Candidates = candidates
	if ok := r.accepted(); len(ok) > 0 {
		r.choose(ok[0].Host)
		return r, nil
	}
	return r, &RouteError{Route: r}
}

// choose records the decision and says it in words.
func (r *Route) choose(host string) {
	i := slices.IndexFunc(r.Candidates, func(c Candidate) bool { return c.Host == host && c.Rejected == "" })
	r.Chosen = host
	if i < 0 {
		return // not routed but found there: an adopted sandbox
	}
	c := r.Candidates[i]
	switch {
	case r.Policy == PolicyExplicit:
		r.Reason = "the only host that explicit placement allows"
	case r.Policy == PolicyLowestCost && c.Estimate != nil:
		r.Reason = fmt.Sprintf("lowest estimate, %v", *c.Estimate)
	case r.Policy == PolicyLowestCost:
		r.Reason = "no host with a known cost is left"
	default:
		r.Reason = fmt.Sprintf("%s, number %d in placement order, self-hosted first", c.Pricing, c.Score)
	}
}

// placed turns placement into candidates, in its order: the hosts that the
// request or the profile names, else all hosts of all extensions that may serve it.
func (c *Client) placed(p Profile, policy Policy, host string) ([]Candidate, error) {
	all := c.hosts(func(e ExtensionInfo) bool {
		return p.Extension == e.ID || p.Extension == "" && slices.Contains(e.Isolation, p.Isolation)
	})
	if len(all) == 0 && p.Extension == "" { // each is to say what it offers instead
		all = c.hosts(func(ExtensionInfo) bool { return true })
	}
	wanted := append(slices.Clone(p.Placement.Prefer), p.Placement.Fallback...)
	switch {
	case host != "":
		wanted = []string{host}
	case len(wanted) == 0:
		wanted = all
	}
	if policy == PolicyExplicit && host == "" {
		if len(p.Placement.Prefer) == 0 && len(wanted) > 1 {
			return nil, &FieldError{Field: "host", Reason: fmt.Sprintf("policy explicit needs a host: name one of %q in the request or in placement.prefer", all)}
		}
		wanted = wanted[:min(1, len(wanted))]
	}
	out := make([]Candidate, 0, len(wanted))
	for i, name := range wanted {
		if slices.Contains(wanted[:i], name) {
			continue
		}
		cand := Candidate{Host: name, preference: i}
		if slices.Contains(all, name) {
			info := c.registry.byHost[name].Info()
			cand.Extension, cand.Pricing = info.ID, info.Pricing
			cand.Estimate = info.Hosts[slices.IndexFunc(info.Hosts, func(h Host) bool { return h.Name == name })].Price
		} else {
			cand.reject(WithHint(fmt.Errorf("host %s: %w", name, ErrNotFound), "configured hosts are: %s", orElse(strings.Join(all, ", "), "none")))
		}
		out = append(out, cand)
	}
	return out, nil
}

// hosts names those of the extensions that may serve.
func (c *Client) hosts(may func(ExtensionInfo) bool) []string {
	var names []string
	for _, ext := range c.registry.All() {
		if info := ext.Info(); may(info) {
			for _, h := range info.Hosts {
				names = append(names, h.Name)
			}
		}
	}
	return names
}

func (c *Candidate) reject(cause error) {
	c.Rejected, c.Hint, c.cause, c.Score = cause.Error(), Hint(cause), cause, 0
}

// hostProbeBound keeps one dead host from delaying the choice of another.
const hostProbeBound = 20 * time.Second

// askBounded bounds one question to a host.
func askBounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, hostProbeBound, fmt.Errorf("%w: no answer within %v", ErrUnavailable, hostProbeBound))
}

// examine fills in cost and, with probe, whether the host can be used now.
func (c *Client) examine(ctx context.Context, req ProvisionRequest, cand *Candidate, probe bool) {
	if cand.Rejected != "" {
		return
	}
	ext := c.registry.byHost[cand.Host]
	req.Host = cand.Host
	if offered := ext.Info().Isolation; !slices.Contains(offered, req.Profile.Isolation) {
		cand.reject(notIsolated(req.Profile, cand.Extension, offered))
		return
	}
	if est, ok := ext.(CostEstimator); ok {
		if cost, err := est.EstimateCost(ctx, req); err == nil {
			cand.Estimate = &cost
		}
	}
	prober, ok := ext.(HostProber)
	if !ok || !probe {
		return
	}
	ctx, cancel := askBounded(ctx)
	defer cancel()
	status, err := prober.ProbeHost(ctx, cand.Host)
	cand.Sandboxes = status.Sandboxes
	switch {
	case err != nil:
		cand.reject(err)
	case !status.Available && status.Err != nil:
		cand.reject(WithHint(status.Err, "%s", status.Hint))
	case !status.Available:
		cand.reject(WithHint(fmt.Errorf("%w: %s", ErrUnavailable, status.Reason), "%s", status.Hint))
	case status.Cordoned:
		cand.reject(WithHint(fmt.Errorf("%w: the host is cordoned: it takes no new sandboxes", ErrUnavailable), "uncordon %s, or name another host", cand.Host))
	case !slices.Contains(status.Isolation, req.Profile.Isolation):
		cand.reject(notIsolated(req.Profile, "host "+cand.Host, status.Isolation))
	case status.FreeDisk > 0 && status.FreeDisk < req.Profile.Resources.Disk:
		cand.reject(WithHint(fmt.Errorf("%w: %v of disk are free, %s asks for %v", ErrLimit, status.FreeDisk, req.Profile.ID, req.Profile.Resources.Disk), "free space on the host, or lower resources.disk in the profile"))
	case status.Host.Slots > 0 && status.Sandboxes >= status.Host.Slots:
		cand.reject(fmt.Errorf("%w: all %d slots are taken", ErrLimit, status.Host.Slots))
	}
}

// notIsolated is the rejection of what does not offer the isolation that a profile asks for.
func notIsolated(p Profile, who string, offered []Isolation) error {
	levels := make([]string, 0, len(offered))
	for _, level := range offered {
		levels = append(levels, string(level))
	}
	return WithHint(fmt.Errorf("isolation %s: %w by %s, which offers %s", p.Isolation, ErrUnsupported, who, orElse(strings.Join(levels, ", "), "none")),
		"give it a host that offers %s, or let %s ask for another isolation", p.Isolation, p.ID)
}

// order sorts candidates by the policy, keeping placement order among equals,
// and numbers the accepted ones.
func order(cs []Candidate, policy Policy) {
	slices.SortStableFunc(cs, func(a, b Candidate) int {
		if policy == PolicyLowestCost {
			return cmp.Or(compareCost(a.Estimate, b.Estimate), cmp.Compare(a.preference, b.preference))
		}
		if policy == PolicyPreferSelfHosted {
			return cmp.Or(cmp.Compare(rank(a.Pricing), rank(b.Pricing)), cmp.Compare(a.preference, b.preference))
		}
		return cmp.Compare(a.preference, b.preference)
	})
	score := 0
	for i := range cs {
		if cs[i].Rejected == "" {
			score++
			cs[i].Score = score
		}
	}
}

func rank(p PricingModel) int {
	if p == PricingSelfHosted {
		return 0
	}
	return 1
}

// compareCost puts unknown last. Different currencies are not comparable:
// they are kept apart, ordered by name.
func compareCost(a, b *Cost) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Or(cmp.Compare(a.Currency, b.Currency), cmp.Compare(a.MicrosPerHour, b.MicrosPerHour))
}
